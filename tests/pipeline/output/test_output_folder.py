"""Tests of the folders of runs: their names, rights, and what is found in a moved folder."""

import fcntl
import json
import shutil
import threading
import time
from pathlib import Path

import pytest

from imgpipe.pipeline.commands import review
from imgpipe.pipeline.output.output_folder import LOCK, OutputFolder
from tests.pipeline.past_runs import leave
from tests.pipeline.review import run_to_review


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """Return a function that sets the local time to half past an hour."""

    def at(hour: int) -> None:
        moment = time.struct_time((2026, 10, 25, hour, 30, 0, 6, 298, -1))
        monkeypatch.setattr(time, "strftime", lambda form, then=moment: real(form, then))

    real = time.strftime
    return at


def test_a_run_is_named_by_its_start_with_a_number_where_the_clock_stands_or_went_back(
    tmp_path: Path, clock
):
    """The clock goes back at the end of daylight saving time."""
    made = []
    for hour in (2, *[1] * 10, 3):
        clock(hour)
        made.append(OutputFolder(tmp_path).new_run(""))
    again = [f"20261025-023000-{number}" for number in range(2, 12)]
    assert [folder.name for folder in made] == ["20261025-023000", *again, "20261025-033000"]
    assert OutputFolder(tmp_path).started == made


def test_runs_with_names_of_kubeflow_are_sorted_and_told_by_the_start_that_they_noted(
    tmp_path: Path,
) -> None:
    local = leave(tmp_path, "20260102-100000")
    noted = {"b1b2": "2026-01-01 10:00:00", "a1a2": "2026-01-03 10:00:00"}
    for name, date in noted.items():
        identity = leave(tmp_path, name) / "identity.json"
        content = json.loads(identity.read_text()) | {"date": f"{date} {time.strftime('%z')}"}
        identity.write_text(json.dumps(content))
    runs = OutputFolder(tmp_path).runs
    assert [run.name for run in runs] == ["b1b2", local.name, "a1a2"]
    assert [run.started for run in runs] == [noted["b1b2"], "2026-01-02 10:00:00", noted["a1a2"]]


def test_only_the_owner_of_the_folder_of_a_run_can_read_its_artifacts(tmp_path: Path):
    with OutputFolder(tmp_path / "new").begin() as folder:
        assert (folder.new_run("") / "artifacts").stat().st_mode & 0o077 == 0


def test_artifacts_are_found_in_a_moved_output_folder_and_outside(tmp_path: Path) -> None:
    """Another project at the former place has an artifact of the same number."""
    kept = tmp_path / "elsewhere" / "model" / "7"
    kept.mkdir(parents=True)
    former, moved = tmp_path / "out", tmp_path / "moved"
    path = "runs/20260101-100000/artifacts/ImageFilter/examples/7"
    artifacts = {
        "ImageFilter": {"examples": path},
        "ImageTrainer": {"model": str(kept)},
        "FeatureBank": {"features": "/removed/features/8"},
    }
    leave(former, "20260101-100000", artifacts=artifacts)
    (former / path).mkdir(parents=True)
    former.rename(moved)
    (former / path).mkdir(parents=True)
    [run] = OutputFolder(moved).runs
    assert run.artifact("ImageFilter", "examples") == str(moved / path)
    assert run.artifact("ImageTrainer", "model") == str(kept)
    assert (
        run.artifact("FeatureBank", "features")
        == run.artifact("ImageEvaluator", "predictions")
        == ""
    )


def test_the_next_commands_of_a_moved_run_name_where_it_is_now(tmp_path: Path) -> None:
    former, moved = tmp_path / "out", tmp_path / "moved"
    leave(former, "20260101-100000", version=3)
    leave(former, "20260102-100000", status="not_blessed", correct=16)
    former.rename(moved)
    published, refused = (
        {step["reason"]: step["remedies"][0] for step in run.next}
        for run in OutputFolder(moved).runs
    )
    assert published["use"] == f"imgpipe serve {moved} --model n"
    config = moved / "runs" / "20260102-100000" / "config.toml"
    assert refused["look"] == f"imgpipe open {config.parent}"
    assert refused["publish"] == (
        f"imgpipe run --config {config} --out {moved} --set evaluate.threshold=0.8"
    )


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        pytest.param("out/decisions.toml", "copy/decisions.toml", id="in the output folder"),
        pytest.param("decisions.toml", "decisions.toml", id="elsewhere"),
        pytest.param("", "copy/overrides.toml", id="not named"),
    ],
)
def test_decisions_about_a_copy_are_not_written_into_the_original(
    tmp_path: Path, named: str, expected: str
) -> None:
    setting = f"judge.overrides={json.dumps(str(tmp_path / named) if named else '')}"
    run_to_review.leave(tmp_path / "out", run_to_review.write(tmp_path / "photos"), [setting])
    copy = shutil.copytree(tmp_path / "out", tmp_path / "copy")
    prepared = review.prepare(review.run_to_review(copy), None)
    assert prepared.decisions.file == tmp_path / expected


def test_a_command_that_looks_does_not_end_a_run_that_begins(tmp_path):
    """It holds a shared lock for an instant, which is as long as two tenths of a second here."""
    folder = OutputFolder(tmp_path)
    looking = (tmp_path / LOCK).open("wb")
    fcntl.flock(looking, fcntl.LOCK_SH)
    thread = threading.Timer(0.2, looking.close)
    thread.start()
    with folder.begin():
        assert folder.is_working
    thread.join()
    assert not folder.is_working
