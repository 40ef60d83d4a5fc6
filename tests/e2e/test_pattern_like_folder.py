"""A run into a folder whose name, if read as a file pattern, matches the folder beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.case import Case


def _files(folder: Path) -> dict[str, int]:
    """Return the modification times, in ns, of all files below a folder, by path."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): path.stat().st_mtime_ns for path in found}


@pytest.mark.slow
def test_a_run_reads_and_writes_only_the_files_of_its_own_folder(case: Any, first: Any):
    before = _files(case.out)
    place = case.out.with_name("[o]u*")
    done = Case(case.photos, place).run()
    assert done.exit_code == 0, done.verdict
    assert done.summary["data"] == first.summary["data"]
    assert done.summary["push"]["path"] == str(place / "model" / "1")
    assert _files(case.out) == before
    again = Case(case.photos, place).run()
    assert "FeatureBank" in again.summary["cached"] and again.exit_code == 0
