"""The files that tasks write to the folder of a run, and the page that the exit task draws."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imgpipe.components.report.run_folder import Failure, RunFolder, shown


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Return a run folder that does not exist yet."""
    return RunFolder(tmp_path / "runs" / "1")


def _artifact(path: Path, text: str) -> Path:
    """Write a text file in a subfolder of an artifact and return the artifact's folder."""
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "file.txt").write_text(text)
    return path


def test_the_first_copy_of_an_artifact_is_kept(folder: RunFolder, tmp_path: Path):
    assert folder.artifacts() == {}
    folder.leave({"quarantine": _artifact(tmp_path / "a", "first")})
    folder.leave({"quarantine": _artifact(tmp_path / "b", "second")})
    (tmp_path / "empty").mkdir()
    folder.leave({"data_blessing": tmp_path / "empty", "model_run": tmp_path / "missing"})
    (path,) = folder.artifacts().values()
    assert list(folder.artifacts()) == ["quarantine"]
    assert (Path(path) / "deep" / "file.txt").read_text() == "first"
    assert [entry.name for entry in Path(path).parent.iterdir()] == ["quarantine"]


def test_only_its_owner_can_read_the_copied_quarantine(folder: RunFolder, tmp_path: Path):
    source = _artifact(tmp_path / "a", "rejected")
    for path in (source, *source.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    folder.leave({"quarantine": source})
    (copied,) = map(Path, folder.artifacts().values())
    modes = {oct(path.stat().st_mode & 0o777) for path in (copied, *copied.rglob("*"))}
    assert modes == {"0o700", "0o600"}


def test_what_a_retry_writes_takes_the_place_of_what_the_failed_attempt_left(
    folder: RunFolder, tmp_path: Path
):
    folder.leave({"quarantine": _artifact(tmp_path / "a", "partial")}, {"quarantine"})
    folder.leave({"quarantine": _artifact(tmp_path / "b", "complete")}, {"quarantine"})
    (path,) = folder.artifacts().values()
    assert (Path(path) / "deep" / "file.txt").read_text() == "complete"


def test_a_failure_is_forgotten_when_a_retry_of_the_same_component_succeeds(folder: RunFolder):
    failure = Failure("DataGate", "the disk is full", 5)
    folder.record(failure)
    folder.forget("ImageTrainer")
    assert folder.failure() == failure
    folder.forget("DataGate")
    assert "a container ended without a message" in folder.failure().cause


def test_artifacts_that_hold_images_or_models_are_not_copied():
    assert shown("ImageFilter", "quarantine") == "quarantine"
    assert shown("DataGate", "blessing") == "data_blessing"
    assert shown("ImageFilter", "examples") == ""
    assert shown("ImageTrainer", "model") == ""


def test_a_recorded_failure_is_read_back_unchanged(folder: RunFolder):
    failure = Failure("DataGate", "too few 'cats' in train", 4)
    folder.record(failure)
    assert folder.failure() == failure


def test_without_a_recorded_failure_the_cause_is_a_container_without_message(folder: RunFolder):
    failure = folder.failure()
    assert "a container ended without a message" in failure.cause
    assert failure.exit_code == 1


def test_damaged_files_in_the_run_folder_count_as_absent(folder: RunFolder):
    folder.record(Failure("DataGate", "too few", 4))
    (file,) = folder.path.iterdir()
    for content in ("", "[]", '{"component": "x"}'):
        file.write_text(content)
        assert "a container ended without a message" in folder.failure().cause
    plan = folder.path / "artifacts" / "plan" / "plan.json"
    plan.parent.mkdir(parents=True)
    for content in ("{", '{"report_settings": "{"}'):
        plan.write_text(content)
        assert folder.settings() == ""


@pytest.mark.parametrize("finished", [False, True])
def test_the_exit_task_draws_the_page_unless_the_run_has_a_page(folder: RunFolder, finished: bool):
    from imgpipe.components.artifacts import RunReport
    from imgpipe.components.report import exit_report

    folder.record(Failure("ImageTrainer", "the disk is full", 5))
    for name in ("plan", "quarantine"):
        folder.leave({name: _artifact(folder.path.parent / name, "")})
    if finished:
        (folder.path / "report.html").write_text("the page of Report")
        (folder.path / "facts.json").write_text("{}")
    output = RunReport()
    output.uri = str(folder.path.parent / "output")
    Path(output.uri).mkdir()
    settings = {"name": "hands", "source": "/data", "vocabulary": [], "threshold": 0.9}
    properties = {"settings": json.dumps(settings), "run_directory": str(folder.path)}
    exit_report.Executor().Do({}, {"report": [output]}, properties)
    page = (Path(output.uri) / "report.html").read_text()
    assert page == (folder.path / "report.html").read_text()
    expected = "the page of Report" if finished else "failed in ImageTrainer: the disk is full"
    assert expected in page
    assert (Path(output.uri) / "facts.json").is_file()
    left = [path.name for path in (folder.path / "artifacts").iterdir()]
    assert left == ([] if finished else ["quarantine"])


def _plan(folder: Path, threshold: float) -> Path:
    """Write a plan with this threshold and return its folder."""
    folder.mkdir()
    values = {"report_settings": json.dumps({"threshold": threshold})}
    (folder / "plan.json").write_text(json.dumps(values))
    return folder


def test_the_report_settings_are_read_from_the_plan(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    assert folder.settings() == ""
    folder.leave({shown("Plan", "plan"): _plan(tmp_path / "plan", 0.75)})
    assert json.loads(folder.settings()) == {"threshold": 0.75}
    assert folder.artifacts() == {}, "the page has no section for the plan"
