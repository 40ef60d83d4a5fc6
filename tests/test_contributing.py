"""Tests of the examples in docs/contributing.md, which are added to a copy of the code."""

import re
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests import python_program
from tests.conftest import REPOSITORY
from tests.images import save

_FILE = re.compile(r'^```python title="([^"]+)"\n(.*?)^```$', flags=re.M | re.S)

#: Builds a classifier with the new backbone.
_PROGRAM = """
from imgpipe.models.network.classifier import build_classifier
from imgpipe.models.settings.settings import Settings

settings = Settings(model={"backbone": "tiny", "weights": "none"})
classifier = build_classifier(None, ["cat", "dog"], settings)
print(settings.size, classifier.network.output_shape[-1])
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code with the files from the page."""
    folder = tmp_path_factory.mktemp("contributing") / "copy"
    for name in ("src", "components", "models", "pipeline", "serving"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, folder / name, symlinks=True, ignore=ignore)
    page = (REPOSITORY / "docs" / "contributing.md").read_text("utf-8")
    files = _FILE.findall(page)
    assert len(files) == 3  # a check, what it measures, and a backbone
    for name, code in files:
        with (folder / name).open("a", encoding="utf-8") as file:  # a table gets one more row
            file.write(code)
    return folder


def _run(copy: Path, folder: Path, *command: str) -> str:
    """Run Python on the copy of the code, in `folder`, and return what it prints."""
    variables = {"PYTHONPATH": str(copy / "src"), "COLUMNS": "200"}
    return python_program.ran(sys.executable, *command, cwd=folder, **variables).stdout


@pytest.mark.slow
def test_the_check_of_the_page_is_used(copy: Path, tmp_path: Path) -> None:
    for label, shade in (("cat", 60), ("dog", 180)):
        for number in range(8):
            image = Image.effect_noise((64, 64), 20 + number).point(
                lambda v, s=shade: v // 2 + s // 4
            )
            save(image.convert("RGB"), tmp_path / "PHOTOS" / label / f"{number}.png")
    noise = Image.effect_noise((64, 64), 60)
    red = Image.merge("RGB", [noise.point(lambda v: 215 + v // 8), noise, noise])
    save(red, tmp_path / "PHOTOS" / "dog" / "red.png")
    command = ["-m", "imgpipe.pipeline.cli", "check", "PHOTOS"]
    command += ["--set", "judge.severity.reddish=reject", "--set", "gate.max_rejected_share=1"]
    said = _run(copy, tmp_path, *command)
    assert re.search(r"rejected: 1 reddish\n.*\n  dog/red.png  redness 0.4", said), said
    assert "16 of 17 images kept" in said


@pytest.mark.slow
def test_the_backbone_of_the_page_is_used(copy: Path, tmp_path: Path) -> None:
    said = _run(copy, tmp_path, "-c", _PROGRAM)
    assert "96 (None, 2)" in said, said
