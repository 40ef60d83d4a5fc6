"""The folders of runs sort by their start, even if the clock is set back; artifacts are private."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from imgpipe.pipeline.output import run_folders


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """Return a function that sets the local time to half past an hour."""

    def at(hour: int) -> None:
        moment = time.struct_time((2026, 10, 25, hour, 30, 0, 6, 298, -1))
        monkeypatch.setattr(time, "strftime", lambda form, then=moment: real(form, then))

    real = time.strftime
    return at


def _started(out: Path) -> Path:
    """Create the folder of a run, which starts when its settings are written."""
    folder = run_folders.create(out / "runs")
    (folder / "config.toml").touch()
    return folder


def test_runs_that_start_in_one_second_are_numbered(tmp_path: Path, clock):
    clock(2)
    names = [_started(tmp_path).name for _ in range(11)]
    assert names[:2] == ["20261025-023000", "20261025-023000-2"]
    assert names[-1] == "20261025-023000-11"
    assert [folder.name for folder in run_folders.started(tmp_path)] == names


def test_a_run_after_the_clock_went_back_is_the_newest(tmp_path: Path, clock):
    """The clock goes back at the end of daylight saving time."""
    made = []
    for hour in (2, 1, 1, 3):
        clock(hour)
        made.append(_started(tmp_path))
    assert [folder.name for folder in made] == [
        "20261025-023000",
        "20261025-023000-2",
        "20261025-023000-3",
        "20261025-033000",
    ]
    assert run_folders.started(tmp_path) == made


def test_only_the_owner_of_a_new_output_folder_can_read_its_artifacts(tmp_path: Path):
    with run_folders.created_and_locked(tmp_path / "new"):
        assert (tmp_path / "new" / "artifacts").stat().st_mode & 0o077 == 0
    (tmp_path / "shared" / "artifacts").mkdir(parents=True)
    (tmp_path / "shared" / "artifacts").chmod(0o750)
    with run_folders.created_and_locked(tmp_path / "shared"):
        pass
    kept = (tmp_path / "shared" / "artifacts").stat().st_mode & 0o777
    assert kept == 0o750, "a folder keeps the access rights that a person gave it"
