"""Images, and the results of the local runner on them, which the tests of all engines share."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SHARED
from tests.engines.runs import outcome, start

_DATA = SHARED / "cats_dogs"
_EACH = 70  # number of photographs of each class


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of two classes of photographs with one damaged file.

    Without the photographs, the images are drawn.
    """
    folder = tmp_path_factory.mktemp("engines") / "photos"
    if _DATA.is_dir():
        for label in ("cat", "dog"):
            (folder / label).mkdir(parents=True)
            for file in sorted((_DATA / label).iterdir())[:_EACH]:
                shutil.copy(file, folder / label)
    else:
        from imgpipe.pipeline.demo import draw

        draw(folder, per_class=40, size=96)
    first = min(path for path in folder.rglob("*") if path.is_file())
    (first.parent / "cut_off.jpg").write_bytes(first.read_bytes()[:400])
    return folder


@pytest.fixture(scope="session")
def expected(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("local") / "out"
    return outcome(start(photos, out), out)
