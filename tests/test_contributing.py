"""The check in the page for contributors works as the page says: one new file, and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

_ROOT = Path(__file__).resolve().parent.parent
_FILE = re.compile(r'^```python title="([^"]+)"\n(.*?)^```$', flags=re.M | re.S)


@pytest.mark.slow
def test_a_check_is_one_new_file(tmp_path: Path) -> None:
    page = (_ROOT / "docs" / "contributing.md").read_text("utf-8")
    [(name, code)] = _FILE.findall(page)
    copy = tmp_path / "copy"
    for folder in ("src", "components", "models", "pipeline", "serving"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(_ROOT / folder, copy / folder, symlinks=True, ignore=ignore)
    assert not (copy / name).exists()
    (copy / name).write_text(code, "utf-8")
    for label, shade in (("cat", 60), ("dog", 180)):
        for number in range(8):
            image = Image.effect_noise((64, 64), 20 + number).point(
                lambda v, s=shade: v // 2 + s // 4
            )
            _save(image, tmp_path / "PHOTOS" / label / f"{number}.png")
    _save(Image.effect_noise((400, 80), 60), tmp_path / "PHOTOS" / "dog" / "wide.png")

    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "COLUMNS": "200"}
    command = [sys.executable, "-m", "imgpipe.pipeline.cli", "check", "PHOTOS"]
    command += ["--set", "judge.severity.panorama=reject", "--set", "gate.max_rejected_share=1"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
    )

    assert re.search(r"rejected +panorama +1 +dog/wide.png: 400 x 80 pixels", done.stdout), (
        done.stdout + done.stderr
    )


def _save(image: Image.Image, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image.convert("RGB").save(file)
