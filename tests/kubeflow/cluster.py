"""A fake Kubeflow Pipelines 2.17, which runs a compiled pipeline as its driver and launcher do.

Each task is a process with an empty working folder, a home folder of its own, and a mount root that
holds nothing but its downloaded inputs and the parent folders of its outputs. As with an object
store, only files travel between tasks, and no empty folders. The cache, other users and cancelled
runs are left to the real cluster of `tests/cluster`.
"""

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgpipe.pipeline.kubeflow.places import ROOT

_SCHEME, _FOLDER = "minio://", "minio"
_RANDOM = "77777777-2222-4333-8444-555555555555"  # a UUID, which the driver makes for each task
_LOG = {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}
#: The metadata that ML Metadata has of each artifact besides that which the task wrote.
_RECORDED = {"store_session_info": '{"Provider":"minio"}'}
_RUN = "00000001-2222-3333-4444-555555555555"  # the id of the run
_SECONDS = 600


@dataclass
class Cluster:
    """One run of a compiled pipeline.

    Attributes:
        spec: The parsed PipelineSpec.
        folder: Folder below which all files of the run are written.
        outputs: Artifacts that the tasks published, by task and output: ``{"name", "uri",
            "metadata"}``. The name is the number of the artifact in ML Metadata.
        values: Output parameters of each task, by name.
    """

    spec: dict[str, Any]
    folder: Path
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def run(self) -> None:
        """Run all tasks, each after those that it depends on; the first failure is an error."""
        waiting: dict[str, Any] = dict(self.spec["root"]["dag"]["tasks"])
        while waiting:
            for name, task in list(waiting.items()):
                if set(task.get("dependentTasks", ())) <= set(self.outputs):
                    self._task(name, waiting.pop(name))

    def result(self) -> dict[str, Any]:
        """Return the result beside the report, which has a page."""
        page = self.stored(self.outputs["Publishing"]["Report_report"]["uri"])
        assert (page / "report.html").is_file()
        return dict(json.loads((page / "result.json").read_text()))

    def stored(self, uri: str) -> Path:
        """Return the folder of the object store that holds an artifact."""
        assert uri.startswith(_SCHEME), uri
        return self.folder / "store" / uri.removeprefix(_SCHEME)

    def _component(self, task: dict[str, Any]) -> dict[str, Any]:
        return dict(self.spec["components"][task["componentRef"]["name"]])

    def _task(self, name: str, task: dict[str, Any]) -> None:
        """Run the container of a task, and keep what it published."""
        pod = self.folder / "pods" / name
        for part in ("work", "home", "tmp", "mounts"):
            (pod / part).mkdir(parents=True)
        label = self._component(task)["executorLabel"]
        declared = self.spec["deploymentSpec"]["executors"][label]["container"]
        given = self._executor_input(name, task, pod)
        for uri in _uris(given["inputs"]):
            _copy_files(self.stored(uri), _mounted(pod, uri))
        for uri in _uris(given["outputs"]):
            _mounted(pod, uri).parent.mkdir(parents=True, exist_ok=True)
        words = [*declared["command"], *declared["args"]]
        done = subprocess.run(
            [word.replace("{{$}}", json.dumps(given)) for word in words],
            cwd=pod / "work",
            env=_environment(pod),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{name} {done.returncode}: {done.stdout[-3000:]}"
        for uri in _uris(given["outputs"]):
            _copy_files(_mounted(pod, uri), self.stored(uri))
        self._publish(name, given)

    def _executor_input(self, name: str, task: dict[str, Any], pod: Path) -> dict[str, Any]:
        """Return what the driver sends to a task: an ExecutorInput as JSON.

        As on a cluster, input artifacts have no type, and a log is among the outputs.
        """
        wanted = task.get("inputs", {})
        declared = self._component(task).get("outputDefinitions", {})
        artifacts = {
            key: {"artifacts": [self._input(source["taskOutputArtifact"])]}
            for key, source in wanted.get("artifacts", {}).items()
        }
        values = {
            key: self._value(task, source) for key, source in wanted.get("parameters", {}).items()
        }
        types = {key: one["artifactType"] for key, one in declared.get("artifacts", {}).items()}
        root, pipeline = self.spec["defaultPipelineRoot"], self.spec["pipelineInfo"]["name"]
        place = f"{root}/{pipeline}/{_RUN}/{name}/{_RANDOM}"
        files = {key: f"{pod}/tmp/kfp/outputs/{key}" for key in declared.get("parameters", {})}
        return {
            "inputs": {"artifacts": artifacts, "parameterValues": values},
            "outputs": {
                "artifacts": {
                    key: {"artifacts": [{"name": key, "type": kind, "uri": f"{place}/{key}"}]}
                    for key, kind in {**types, "executor-logs": _LOG}.items()
                },
                "parameters": {key: {"outputFile": file} for key, file in files.items()},
                "outputFile": f"{pod}/tmp/kfp_outputs/output_metadata.json",
            },
        }

    def _value(self, task: dict[str, Any], source: dict[str, Any]) -> Any:
        """Return an input parameter: a constant, the default of the run, or a task's output."""
        if "runtimeValue" in source:
            return source["runtimeValue"]["constant"]
        if output := source.get("taskOutputParameter"):
            assert output["producerTask"] in task["dependentTasks"]
            return self.values[output["producerTask"]][output["outputParameterKey"]]
        declared = self.spec["root"]["inputDefinitions"]["parameters"]
        return declared[source["componentInputParameter"]]["defaultValue"]

    def _input(self, source: dict[str, str]) -> dict[str, Any]:
        """Return an input artifact without its type."""
        artifact = self.outputs[source["producerTask"]][source["outputArtifactKey"]]
        return {**artifact, "type": {"instanceSchema": ""}}

    def _publish(self, name: str, given: dict[str, Any]) -> None:
        """Keep the metadata of the outputs that the task wrote, as the launcher does."""
        written = json.loads(Path(given["outputs"]["outputFile"]).read_text())
        published: dict[str, Any] = {}
        for key, output in given["outputs"]["artifacts"].items():
            told = written["artifacts"].get(key, {"artifacts": [{}]})["artifacts"][0]
            published[key] = {
                "name": str(next(self._numbers)),
                "uri": told.get("uri", output["artifacts"][0]["uri"]),
                "metadata": {**_RECORDED, "display_name": key, **told.get("metadata", {})},
            }
        told = written.get("parameterValues", {})
        self.values[name] = {key: told[key] for key in given["outputs"]["parameters"]}
        self.outputs[name] = published


def _uris(side: dict[str, Any]) -> list[str]:
    """Return the URIs of all artifacts among the inputs or outputs."""
    return [one["uri"] for found in side["artifacts"].values() for one in found["artifacts"]]


def _mounted(pod: Path, uri: str) -> Path:
    """Return the path at which a pod sees the artifact of a URI."""
    return pod / "mounts" / _FOLDER / uri.removeprefix(_SCHEME)


def _copy_files(source: Path, target: Path) -> None:
    """Copy all files below a folder, without empty folders."""
    for file in source.rglob("*") if source.is_dir() else ():
        if file.is_file():
            (target / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target / file.relative_to(source))


def _environment(pod: Path) -> dict[str, str]:
    """Return the environment of a container.

    Rounding depends on the kernels of OpenBLAS and on oneDNN, and a container needs those of a
    command of this environment to end with the same weights.
    """
    choices = ("OPENBLAS_", "TF_ENABLE_ONEDNN_OPTS")
    kernels = {key: value for key, value in os.environ.items() if key.startswith(choices)}
    path = f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
    places = {"HOME": str(pod / "home"), "TMPDIR": str(pod / "tmp"), ROOT: str(pod / "mounts")}
    return {"PATH": path, "TF_CPP_MIN_LOG_LEVEL": "2", **kernels, **places}
