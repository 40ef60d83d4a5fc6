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
from imgpipe.pipeline.definition.plan import NEVER_CACHED
from imgpipe.pipeline.output.output_folder import OutputFolder
from imgpipe.pipeline.output.run import Run
from tests import python_program
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
    pattern = "runs/*/artifacts/ImageTrainer/model_run/*"
    before = {*fresh.out.glob(pattern)}
    command = _command(fresh, tmp_path, "--from", "ImageTrainer", "--set", "course.epochs=9")
    _kill_when(command, lambda: {*fresh.out.glob(pattern)} - before)
    outcome = fresh.run("course.epochs=9")
    assert outcome.exit_code in (0, 3), outcome.verdict
    assert {"ImageFilter", "FeatureBank"} <= set(outcome.result["cached"])
    dead, mine = OutputFolder(fresh.out).runs[-2:]
    assert (dead.status, mine.folder) == ("killed", outcome.folder)
    assert mine.artifacts["ImageTrainer"]["model_run"].startswith(f"runs/{mine.name}/artifacts/")


#: Runs a configuration, and dies when a component has written its artifacts but not yet ended.
_DIES = """
import os, sys
from pathlib import Path
from tfx.orchestration.portable import launcher
from imgpipe.pipeline.configuration import config
from imgpipe.pipeline.execution.pipeline_run import execute

file, component = sys.argv[1:]
published = launcher.Launcher._publish_successful_execution

def publish(self, *arguments, **named):
    if self._pipeline_node.node_info.id == component:
        os._exit(9)
    return published(self, *arguments, **named)

launcher.Launcher._publish_successful_execution = publish
execute(config.load(Path(file)))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_is_killed_in_every_component_in_turn_repeats_only_this_one(
    case: Case, first: Any, tmp_path: Path
):
    mine = Case(case.photos, tmp_path / "out")
    config = mine.config_file(tmp_path)
    nodes = list(first.result["timings"]["components"])
    for number, node in enumerate(nodes):
        python_program.ran(sys.executable, "-c", _DIES, config, node, code=9)
        run = OutputFolder(mine.out).runs[-1]
        assert run.status == "killed" or node == "Report"  # which had written the result
        made = [name for name in run.artifacts if _made_by(run, name)]
        # The component in which the run before died, and those that are never cached.
        assert set(made) <= {*nodes[max(0, number - 1) : number], *NEVER_CACHED}
        assert manifest.version_numbers(mine.out / "model") in ([], [1])
    outcome = mine.run()
    assert outcome.exit_code == 0, outcome.verdict
    assert set(nodes) - set(outcome.result["cached"]) == set(NEVER_CACHED)
    assert manifest.version_numbers(mine.out / "model") == [1]
    assert outcome.accuracy == first.accuracy


def _made_by(run: Run, component: str) -> bool:
    """Return whether a run has made the artifacts of a component, and not an earlier one."""
    return all(path.startswith(f"runs/{run.name}/") for path in run.artifacts[component].values())


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
