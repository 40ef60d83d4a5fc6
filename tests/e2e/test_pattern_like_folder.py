"""A run into a folder whose name, taken for a file pattern, matches its neighbour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.case import Case


def _files(folder: Path) -> dict[str, int]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): path.stat().st_mtime_ns for path in found}


@pytest.mark.slow
def test_it_reads_and_writes_its_own_files_alone(case: Any, first: Any):
    before = _files(case.out)
    place = case.out.with_name("[o]u*")
    done = Case(case.photos, place).run()
    assert done.exit_code == 0, done.verdict
    assert done.summary["data"] == first.summary["data"]
    assert done.summary["push"]["path"] == str(place / "model" / "1")
    assert _files(case.out) == before
    again = Case(case.photos, place).run()
    assert "FeatureBank" in again.summary["cached"] and again.exit_code == 0
