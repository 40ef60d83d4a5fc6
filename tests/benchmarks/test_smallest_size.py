"""Every benchmark runs to its end at its smallest size, on drawn images.

The figures are not looked at. A benchmark that nobody starts for weeks ends in a traceback when a
part of the product that it uses has changed.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.common import ROOT
from tests import python_program
from tests.images import encoded

_SHAPE = (120, 160)  # rows and columns
_EACH = {  # drawn images of each class
    "cats_dogs": (("cat", "dog"), 30),
    "flowers_128": (("daisy", "rose", "tulip"), 16),
    "rps_photos/training": (("paper", "rock"), 4),
}
_AGAIN = 2  # photographs of each class that others have saved again
#: Arguments of the smallest measurement, by module and, after a space, what it measures.
_SMALLEST = {
    "against_commit": f"{ROOT} --rounds 1 --added 2",
    "against_course": "--epochs 1",
    "chance": "--set cats_dogs --images 24 --classes 2 --draws 1 --size 32",
    "growth": "--counts 257 --size 32 --views 0",
    "growth check": "--check --counts 257",
    "judge": "--each 1 --cropped 4",
    "serving": "--rounds 1 --window 0.2",
    "training": "--sets cats_dogs_defaults --seeds 1 --minutes 0",
    "whole_run": "--added 2",
}
_WITHOUT_DATA = ("serving",)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of drawn sets under the names of the sets that the benchmarks read."""
    folder = tmp_path_factory.mktemp("data")
    seed = 0
    for name, (classes, count) in _EACH.items():
        for kind, label in enumerate(classes):
            (folder / name / label).mkdir(parents=True)
            for number in range(count):
                seed += 1
                file = folder / name / label / f"{label}.{number}.jpg"
                file.write_bytes(_drawn(kind, seed, 90))
                if name == "cats_dogs" and number < _AGAIN:
                    again = folder / "cats_dogs_reencoded" / label / file.name
                    again.parent.mkdir(parents=True, exist_ok=True)
                    again.write_bytes(_drawn(kind, seed, 60))
    return folder


def _drawn(kind: int, seed: int, quality: int) -> bytes:
    """Return a JPEG of coloured noise, whose prevailing colour is that of its class."""
    coarse = np.random.default_rng(seed).integers(0, 160, (9, 12, 3))
    coarse[..., kind] += 80
    rows, columns = _SHAPE
    image = Image.fromarray(coarse.astype(np.uint8)).resize((columns, rows))
    return encoded(image, "JPEG", quality=quality)


def test_every_benchmark_has_a_smallest_size() -> None:
    programs = {
        path.stem
        for path in (ROOT / "benchmarks").glob("*.py")
        if "common.finish(" in path.read_text("utf-8")
    }
    assert programs == {name.split()[0] for name in _SMALLEST}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", _SMALLEST)
def test_a_benchmark_prints_its_figures(name: str, data: Path, tmp_path: Path) -> None:
    module = name.split()[0]
    command = [sys.executable, "-m", f"benchmarks.{module}", *_SMALLEST[name].split()]
    if module not in _WITHOUT_DATA:
        command += ["--data", str(data), "--work", str(tmp_path / "work")]
    done = python_program.ran(*command, cwd=ROOT, seconds=1100)
    assert "machine, at the end" in done.stdout
