"""The first command of the README, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests import browser
from tests.conftest import REPOSITORY

#: With this variable, the picture of the README is drawn again.
_DRAW = "IMGPIPE_DRAW_IMAGES"


@pytest.mark.slow
def test_the_demo_publishes_a_model_and_classifies_a_new_image(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "imgpipe.pipeline.cli", "demo", "--out", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        timeout=290,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "classified a new image of paper over gRPC: paper" in done.stdout
    look, mend, use = done.stdout.splitlines()[-3:]
    assert look.endswith(f"  imgpipe open {tmp_path}/demo/run")
    assert mend.endswith(f"  imgpipe review {tmp_path}/demo/run")
    assert use.endswith(f"  imgpipe serve {tmp_path}/demo/run")
    assert done.stdout.count("imgpipe serve") == 1
    assert (tmp_path / "demo/run/model/1/saved_model.pb").exists()
    (report,) = (tmp_path / "demo/run").glob("runs/*/report.html")
    if browser.PROGRAM:
        _draw(report, tmp_path)


def _draw(report: Path, folder: Path) -> None:
    """Draw the picture of the README: what the report shows of the drawn hands of the demo."""
    profile = folder / "profile"
    profile.mkdir()
    drawn = folder / "report.png"
    with browser.chromium(profile) as page:
        page.look(1100, 800)
        page.open(report.as_uri())
        page.picture("#by_class", "#gallery", drawn)
    with Image.open(drawn) as picture:
        assert picture.width > 1000 and picture.height > 800
        if os.environ.get(_DRAW):
            few_colours = picture.convert("RGB").quantize(256)
            few_colours.save(REPOSITORY / "docs/images/report.png", optimize=True)
