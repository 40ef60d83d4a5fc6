"""The folders of runs sort by their start, even if the clock is set back; artifacts are private."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from imgpipe.pipeline.output.output_folder import OutputFolder


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """Return a function that sets the local time to half past an hour."""

    def at(hour: int) -> None:
        moment = time.struct_time((2026, 10, 25, hour, 30, 0, 6, 298, -1))
        monkeypatch.setattr(time, "strftime", lambda form, then=moment: real(form, then))

    real = time.strftime
    return at


def test_runs_that_start_in_one_second_are_numbered(tmp_path: Path, clock):
    clock(2)
    names = [OutputFolder(tmp_path).new_run("").name for _ in range(11)]
    assert names[:2] == ["20261025-023000", "20261025-023000-2"]
    assert names[-1] == "20261025-023000-11"
    assert [folder.name for folder in OutputFolder(tmp_path).started] == names


def test_a_run_after_the_clock_went_back_is_the_newest(tmp_path: Path, clock):
    """The clock goes back at the end of daylight saving time."""
    made = []
    for hour in (2, 1, 1, 3):
        clock(hour)
        made.append(OutputFolder(tmp_path).new_run(""))
    assert [folder.name for folder in made] == [
        "20261025-023000",
        "20261025-023000-2",
        "20261025-023000-3",
        "20261025-033000",
    ]
    assert OutputFolder(tmp_path).started == made


def test_only_the_owner_of_a_new_output_folder_can_read_its_artifacts(tmp_path: Path):
    with OutputFolder(tmp_path / "new").begin():
        assert (tmp_path / "new" / "artifacts").stat().st_mode & 0o077 == 0
    (tmp_path / "shared" / "artifacts").mkdir(parents=True)
    (tmp_path / "shared" / "artifacts").chmod(0o750)
    with OutputFolder(tmp_path / "shared").begin():
        pass
    kept = (tmp_path / "shared" / "artifacts").stat().st_mode & 0o777
    assert kept == 0o750, "a folder keeps the access rights that a person gave it"
