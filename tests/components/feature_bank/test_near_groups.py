"""The groups of near-duplicates are written to the bank without the images that were rejected."""

from __future__ import annotations

import json
from pathlib import Path

from imgpipe.components.feature_bank.component import write_near_groups
from imgpipe.components.image_filter.near_duplicates.matching import FILE
from imgpipe.models.features.image_groups import NEAR_FILE


def _written(folder: Path) -> list[list[str]]:
    """Write the groups of the quarantine to the bank and return those in the bank's file."""
    write_near_groups(str(folder / "quarantine"), str(folder / "bank"))
    found: list[list[str]] = json.loads((folder / "bank" / NEAR_FILE).read_text())
    return found


def test_kept_images_of_each_group_are_listed(tmp_path: Path):
    lines = [
        [("a", True), ("b", False), ("c", True)],
        [("d", True), ("e", True)],
        [("f", True), ("g", False)],
    ]
    text = "".join(
        json.dumps({"radius": 4, "members": [{"image_hash": h, "stays": s} for h, s in line]})
        + "\n"
        for line in lines
    )
    (tmp_path / "quarantine").mkdir()
    (tmp_path / "quarantine" / FILE).write_text(text)
    assert _written(tmp_path) == [["a", "c"], ["d", "e"]]


def test_a_run_that_searched_no_near_duplicates_has_none(tmp_path: Path):
    assert _written(tmp_path) == []
