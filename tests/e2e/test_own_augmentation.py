"""A run whose views are made by the function that the how-to page shows, and a change of it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgpipe.models.files.described_files import MODEL_DIGEST
from tests.conftest import REPOSITORY
from tests.document_blocks import blocks
from tests.e2e.case import Case

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_PAGE = REPOSITORY / "docs" / "how-to" / "own-augmentation.md"
_FILE = "my_views.py"
_VIEWS = "course.views.builder=my_views:make"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write the module of the page into the current folder, and forget it afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / _FILE
    [text] = [block.text for block in blocks(_PAGE) if block.title == _FILE]
    file.write_text(text)
    yield file
    sys.modules.pop(file.stem, None)


def test_a_change_of_an_own_augmentation_trains_again(drawn: Path, module: Path) -> None:
    case = Case(drawn, module.parent / "out")
    first = case.run(_VIEWS)
    assert first.exit_code == 0, first.verdict
    images = first.result["data"]["by_split"]
    views = 2 * sum(images["train"].values())  # `case.SETTINGS` asks for two
    kept = first.result["data"]["kept"]
    bank = first.result["bank"]
    assert (bank["forward_passes"], bank["reused"]) == (kept + views, 0)
    assert case.run(_VIEWS).repeated

    module.write_text(module.read_text().replace("0.2", "0.5"))
    changed = case.run(_VIEWS)
    assert not changed.repeated
    assert {"FeatureBank", "ImageTrainer"}.isdisjoint(changed.result["cached"])
    assert "ImageFilter" in changed.result["cached"], "the images are the same"
    assert changed.result["bank"]["forward_passes"] == views, "the images themselves are reused"
    first_model, second_model = (
        (case.out / "model" / version / MODEL_DIGEST).read_text() for version in ("1", "2")
    )
    assert first_model != second_model
