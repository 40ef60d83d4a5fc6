"""Tests with the real compiler, driver and launcher of Kubeflow Pipelines.

The compiler is ``accept/main.go``, which calls what the API server calls. All programs are built
from kubeflow/pipelines; docs/kubeflow.md says how. The tests find them through environment
variables and are skipped without them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from imgpipe.components.storage import manifest
from tests.kubeflow import pod
from tests.kubeflow.argo import Workflow
from tests.kubeflow.loopback import BUCKET, Services, services
from tests.kubeflow.pipelines import compiled, draw, program, require_same_version

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

CLAIM = "images"


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with drawn images with planted faults, which stands for a volume."""
    folder = tmp_path_factory.mktemp("volume")
    draw(folder / "photos")
    return folder


def _compiled(volume: Path, output: Path, *settings: str) -> Path:
    """Compile the pipeline of the images, for a claim that is mounted at the path of `volume`."""
    given = (f"run.out={json.dumps(str(volume / 'out'))}", "kubeflow.retries=0", *settings)
    claim = f"{{claim = '{CLAIM}', path = '{volume}'}}"
    return compiled(volume / "photos", output, f"minio://{BUCKET}/root", claim, *given)


def _workflow(compiler: Path, pipeline: Path, run_id: str = "run-1") -> dict[str, Any]:
    """Return the Argo workflow that the real compiler makes of a pipeline."""
    root = f"minio://{BUCKET}/root"
    ended = subprocess.run(
        [compiler, "--spec", pipeline, "--pipeline_root", root, "--run_id", run_id],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return yaml.safe_load(ended.stdout)


def test_kfps_compiler_accepts_the_pipeline(volume: Path, tmp_path: Path):
    compiler = program("IMGPIPE_KFP_COMPILER")
    pipeline = _compiled(volume, tmp_path / "pipeline.yaml")
    spec = next(yaml.safe_load_all(pipeline.read_text()))
    templates = _workflow(compiler, pipeline)["spec"]["templates"]
    compiled = [task for one in templates for task in one.get("dag", {}).get("tasks", [])]
    tasks = {task["name"] for task in compiled}
    for name in spec["root"]["dag"]["tasks"]:
        assert {name, f"{name}-driver"} <= tasks


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Return the services that driver and launcher need."""
    store = program("IMGPIPE_S3_SERVER")
    if not pod.possible():
        pytest.skip("this machine lets no process have mounts of its own (unshare --mount)")
    with services(tmp_path_factory.mktemp("services"), store) as started:
        yield started


def _run(cluster: Services, volume: Path, folder: Path, *settings: str) -> Workflow:
    """Compile the pipeline, run its workflow and return it."""
    pipeline = _compiled(volume, folder / "pipeline.yaml", *settings)
    workflow = Workflow(
        _workflow(program("IMGPIPE_KFP_COMPILER"), pipeline, run_id=folder.name),
        cluster,
        folder / "pods",
        program("IMGPIPE_KFP_DRIVER"),
        program("IMGPIPE_KFP_LAUNCHER"),
        {CLAIM: volume},
    )
    workflow.run()
    return workflow


@pytest.fixture(scope="module")
def blessed(cluster: Services, volume: Path, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """Return a whole run, whose tasks later runs take from the cache."""
    return _run(cluster, volume, tmp_path_factory.mktemp("blessed"))


def test_driver_and_launcher_push_the_model_of_a_local_run(
    blessed: Workflow, volume: Path, tmp_path: Path
):
    failed = [name for name, state in blessed.states.items() if state == "Failed"]
    shown = {name: blessed.logs[name][-3000:] for name in failed if name in blessed.logs}
    assert not failed, "\n\n".join(f"{name}:\n{log}" for name, log in shown.items())
    assert not blessed.cached
    assert "the model is blessed: " in blessed.logs["Publishing"]
    require_same_version(volume / "out" / "model", volume / "photos", tmp_path / "local")


@pytest.mark.usefixtures("blessed")
def test_a_second_run_takes_its_tasks_from_the_cache(
    cluster: Services, volume: Path, tmp_path: Path
):
    again = _run(cluster, volume, tmp_path)
    assert "Failed" not in again.states.values(), again.logs
    tasks = {name.removesuffix("-driver") for name in again.states if name.endswith("-driver")}
    assert tasks - again.cached == {"root", "Plan", "Publishing"}
    assert len(list(manifest.versions(volume / "out" / "model"))) == 1


@pytest.mark.usefixtures("blessed")
def test_refused_data_end_the_run_with_exit_code_4(cluster: Services, volume: Path, tmp_path: Path):
    refused = _run(cluster, volume, tmp_path, "gate.min_train=1000")
    assert refused.states["Data"] == "Failed"
    log = refused.logs["Data"]
    _, told = log.rsplit("\nimgpipe: ", 1)
    assert "too few 'scissors' in train: expected at least 1000" in told
    # `imgpipe kubeflow submit --wait` reads the exit code from the launcher's last line.
    assert "failed to execute component: exit status 4" in log.splitlines()[-1]
    assert not {"Training", "Publishing"} & set(refused.logs)
