"""An export that the tests publish, and the gates that it has passed."""

from pathlib import Path

import pytest

GATES = {"model": True, "serving": True}


@pytest.fixture
def saved_model(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "assets").mkdir()
    (folder / "assets" / "vocabulary.txt").write_text("a\nb\n")
    (folder / "variables" / "variables.data").write_bytes(b"weights" * 1000)
    return folder
