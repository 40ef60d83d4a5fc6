"""Tests of runs that are killed with SIGKILL, run at the same time, or cannot write a version."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from imgpipe.components.common.storage import manifest
from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.output.output_folder import OutputFolder
from tests.e2e.case import Case

_SECONDS = 240.0


def _command(case: Case, tmp_path: Path, *more: str) -> list[str]:
    """Return the command that runs a case from a configuration file, with further arguments."""
    config = str(case.config_file(tmp_path))
    return [sys.executable, "-m", "imgpipe.pipeline.cli", "run", "--config", config, *more]


def _kill_when(command: list[str], seen: Any) -> None:
    """Start a command and kill it with SIGKILL as soon as `seen()` is true."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + _SECONDS
    try:
        while not seen():
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline, "the moment to kill never came"
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def fresh(case: Case, first: Any, tmp_path: Path) -> Case:
    """Return the shared case with a copy of its output folder, which a test may break."""
    shutil.copytree(case.out, tmp_path / "out")
    return Case(case.photos, tmp_path / "out")


@pytest.mark.slow
def test_a_run_after_one_that_was_killed_in_the_trainer_succeeds(fresh: Case, tmp_path: Path):
    folder = fresh.out / "artifacts" / "ImageTrainer" / "model_run"
    before = {path.name for path in folder.iterdir()}
    command = _command(fresh, tmp_path, "--from", "ImageTrainer", "--set", "course.epochs=9")
    _kill_when(command, lambda: {path.name for path in folder.iterdir()} - before)
    [dead] = {path.name for path in folder.iterdir()} - before
    outcome = fresh.run("course.epochs=9")
    assert outcome.exit_code in (0, 3), outcome.verdict
    assert {"ImageFilter", "FeatureBank"} <= set(outcome.result["cached"])
    assert not (folder / dead).exists(), "what the dead execution left is removed"
    assert _running(fresh.out) == 0


def _running(out: Path) -> int:
    """Return the number of executions that ML Metadata records as running."""
    import ml_metadata as mlmd
    from ml_metadata.proto import metadata_store_pb2

    from imgpipe.pipeline.execution import local

    store = mlmd.MetadataStore(local.metadata_config(out / "metadata.sqlite"))
    running = metadata_store_pb2.Execution.RUNNING
    return sum(execution.last_known_state == running for execution in store.get_executions())


@pytest.mark.slow
def test_a_run_after_one_that_was_killed_in_the_pusher_succeeds(fresh: Case, tmp_path: Path):
    shutil.rmtree(fresh.out / "model")
    base = fresh.out / "model"
    _kill_when(_command(fresh, tmp_path), lambda: base.exists() and any(base.iterdir()))
    for number in manifest.version_numbers(base):
        found = next(version for version in manifest.versions(base) if version.number == number)
        assert found.manifest["files"] == manifest.describe(found.folder)
    outcome = fresh.run()
    assert outcome.exit_code == 0
    assert manifest.latest(base) is not None
    assert not list(base.glob(".tmp-*"))


def test_a_second_run_in_the_same_folder_is_refused(case: Case):
    case.out.mkdir(exist_ok=True)
    folder = OutputFolder(case.out)
    with folder.locked("busy"), pytest.raises(ResourceError, match="another run"):
        case.run()


@pytest.mark.slow
def test_a_run_that_cannot_write_its_version_ends_with_exit_code_5(fresh: Case):
    """The folder of the versions is a file, so not even root can write there."""
    shutil.rmtree(fresh.out / "model")
    (fresh.out / "model").write_text("in the way")
    outcome = fresh.run("evaluate.threshold=0.49")
    assert outcome.exit_code == 5
    assert "could not publish a version" in outcome.verdict
    assert (outcome.out / outcome.result["log"]).is_file()
    assert outcome.report.is_file()
