"""Runs of the compiled pipeline on a Kubernetes with Kubeflow Pipelines, which `up.sh` starts.

`make test-cluster` builds what they need. They need root, for a network namespace and containers.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imgpipe.components.common.storage import manifest
from tests.conftest import REPOSITORY
from tests.document_blocks import DOCS, blocks
from tests.e2e.case import as_assignments
from tests.kubeflow.pipelines import compiled, draw

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]

_HERE = Path(__file__).resolve().parent
_FOLDER = Path(os.environ.get("IMGPIPE_CLUSTER", REPOSITORY / ".cluster"))
_USER, _OTHER_USER = 1000, 2000  # the second one is that of the image imgpipe:other


@pytest.fixture(scope="module")
def volume() -> Iterator[Path]:
    """Start the cluster; return the folder of its volume, with drawn images, and stop it."""
    try:
        subprocess.run([_HERE / "up.sh"], check=True, timeout=600)
        folder = _FOLDER / "volume"
        draw(folder / "photos")
        for out, user in (("out", _USER), ("local", _USER), ("other", _OTHER_USER)):
            (folder / out).mkdir()
            os.chown(folder / out, user, user)
        yield folder
    finally:
        subprocess.run([_HERE / "down.sh"], timeout=300)


def _inside(*words: str | Path) -> list[str | Path]:
    """Return the words that run a command in the network of the cluster."""
    return ["nsenter", "--net=/run/netns/imgpipe-cluster", "--", *words]


def _compiled(folder: Path, out: str, *settings: str, tag: str = "1") -> Path:
    """Compile the pipeline of the images, with its outputs in a folder of the volume."""
    given = (f'run.out="/data/{out}"', *settings)
    limits = 'kubeflow.resources={default = {cpu = 1, memory = "4Gi"}}'
    claim = "{claim = 'images', path = '/data'}"
    root = "minio://mlpipeline/imgpipe"
    file, image = folder / f"{out}.yaml", f"registry/imgpipe:{tag}"
    return compiled("/data/photos", file, root, claim, *given, limits, image=image)


class _Run(threading.Thread):
    """The program of docs/kubeflow.md for a file and parameters, with what it printed."""

    def __init__(self, file: Path, **values: str) -> None:
        super().__init__()
        [program] = [one.text for one in blocks(DOCS / "kubeflow.md") if "Client(" in one.text]
        program = program.replace("pipeline.yaml", str(file)).replace("{}", repr(values))
        self.command = _inside(sys.executable, "-uW", "ignore", "-c", program)
        self.text = ""
        self.start()

    def run(self) -> None:
        words = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with subprocess.Popen(self.command, **words) as process:
            for line in process.stdout or ():
                self.text += line

    def ended(self) -> str:
        """Wait for the end of the run, print what the program printed, and return the state."""
        began = time.monotonic()
        self.join()
        print(f"{self.text}after {time.monotonic() - began:.0f} s")
        return self.text.split()[-1]

    def id(self) -> str:
        """Wait until the run is submitted, and return its id."""
        while not (link := re.search(r"/runs/details/(\S+)\n", self.text)):
            assert self.is_alive(), self.text
            time.sleep(0.2)
        return link[1]

    def left(self, out: Path, name: str) -> dict[str, Any]:
        """Return what a file in the folder of the run holds; `out` is the output folder."""
        return dict(json.loads((out / "runs" / self.id() / name).read_text()))


def _environment() -> dict[str, str]:
    return {**os.environ, "KUBECONFIG": str(_FOLDER / "pki/admin.kubeconfig")}


def _mix(photos: Path, mixed: Path) -> None:
    """Copy images into the folders of all classes in turn, so that nothing can be learned."""
    labels = sorted(path.name for path in photos.iterdir() if path.is_dir())
    for number, file in enumerate(sorted(photos.glob("*/*"))):
        target = mixed / labels[number % len(labels)] / f"{number}{file.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def _running_pod(run: str, task: str) -> str:
    """Wait until a task of a run has started, and return the name of its pod."""
    listed = ("get", "pods", "-n", "kubeflow", "-l", f"pipeline/runid={run}", "-o", "json")
    while True:
        words = _inside(_FOLDER / "bin/kubectl", *listed)
        found = subprocess.run(words, check=True, capture_output=True, env=_environment())
        for pod in json.loads(found.stdout)["items"]:
            node = pod["metadata"]["annotations"].get("workflows.argoproj.io/node-name", "")
            if f".{task}(" in node and pod["status"]["phase"] == "Running":
                return str(pod["metadata"]["name"])
        time.sleep(1)


def _published_without_a_cluster(volume: Path) -> manifest.Version:
    """Publish a model in a container of the same image, as the same user, by `imgpipe run`.

    Rounding depends on the versions of packages and on the kernels that OpenBLAS chooses, and with
    it the digest of the weights; a person may have chosen other ones for this machine.
    """
    words = [word for setting in as_assignments() for word in ("--set", setting)]
    command = ["imgpipe", "run", "/data/photos", "--out", "/data/local", *words]
    subprocess.run([_HERE / "run.sh", volume, *command], check=True)
    [version] = manifest.versions(volume / "local" / "model")
    return version


def test_a_run_publishes_the_model_of_a_run_without_a_cluster_and_a_repeated_run_none(
    volume: Path, tmp_path: Path
):
    file = _compiled(tmp_path, "out")
    first = _Run(file)
    assert first.ended() == "SUCCEEDED", first.text
    assert first.left(volume / "out", "result.json")["push"]["status"] == "pushed"
    [version] = manifest.versions(volume / "out" / "model")
    files = [version.folder, *version.folder.rglob("*")]
    assert not [path for path in files if path.stat().st_mode & 0o022], "others may write"
    assert {path.stat().st_uid for path in files} == {_USER}
    ours = _published_without_a_cluster(volume)
    assert version.identity == ours.identity, "the weights of the run without a cluster"

    assert _Run(file).ended() == "SUCCEEDED"
    assert manifest.version_numbers(volume / "out" / "model") == [1]
    _mix(volume / "photos", volume / "mixed")
    mixed = _Run(file, source="/data/mixed")
    assert mixed.ended() == "SUCCEEDED", "without a model"
    assert mixed.left(volume / "out", "result.json")["push"]["status"] == "refused"
    assert manifest.version_numbers(volume / "out" / "model") == [1]


def test_refused_data_a_wrong_source_and_a_cancelled_run_fail(volume: Path, tmp_path: Path):
    refused = _Run(_compiled(tmp_path, "out", "gate.min_train=1000"))
    assert refused.ended() == "FAILED"
    failure = refused.left(volume / "out", "failure.json")
    assert (failure["component"], failure["exit_code"]) == ("DataGate", 4)
    assert "too few in train: expected at least 1000 of each class" in failure["cause"]

    file = _compiled(tmp_path, "out")
    wrong = _Run(file, source="/data/nothing")
    assert wrong.ended() == "FAILED"
    assert wrong.left(volume / "out", "failure.json")["exit_code"] == 2
    cancelled = _Run(file)
    _running_pod(cancelled.id(), "Plan")
    stop = "import kfp, sys; kfp.Client(host='http://localhost:8888').terminate_run(sys.argv[1])"
    subprocess.run(_inside(sys.executable, "-c", stop, cancelled.id()), check=True)
    assert cancelled.ended() == "FAILED"


def test_a_deleted_pod_of_another_user_is_started_again(volume: Path, tmp_path: Path):
    run = _Run(_compiled(tmp_path, "other", tag="other"))
    pod = _running_pod(run.id(), "Training")
    words = ("delete", "pod", "-n", "kubeflow", pod, "--wait=false")
    subprocess.run(_inside(_FOLDER / "bin/kubectl", *words), check=True, env=_environment())
    assert run.ended() == "SUCCEEDED", run.text
    [version] = manifest.versions(volume / "other" / "model")
    assert version.folder.stat().st_uid == _OTHER_USER
