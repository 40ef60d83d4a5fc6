"""A fake Kubeflow Pipelines 2.17, which runs a compiled pipeline as its driver and launcher do.

Each task is a process with an empty working folder, a home folder of its own, and a mount root that
holds nothing but its downloaded inputs and the parent folders of its outputs. As with an object
store, only files travel between tasks, and no empty folders. Loading TFX takes longer than most
tasks on a small set, so that the processes are forks of the fork server of `multiprocessing`, which
loads it once.

The cache works like that of the driver: it recognises a task by its container, the values of its
parameters, the names of its input artifacts and the types of its outputs.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import runpy
import shutil
import sys
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from imgpipe.pipeline.kubeflow.places import ROOT

_SCHEME, _FOLDER = "minio://", "minio"
_RANDOM = "77777777-2222-4333-8444-555555555555"  # a UUID, which the driver makes for each task
_LOG = {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}
#: The metadata that ML Metadata has of each artifact besides that which the task wrote.
_RECORDED = {"store_session_info": '{"Provider":"minio"}'}
_AT_A_TIME = 2
_RESULTS = ("cached", "exit_codes", "logs", "outputs", "values")
#: Modules that `imgpipe.pipeline.kubeflow.entry_point` and the components import while they run.
_LOADED = (
    "imgpipe.pipeline.definition.graph",
    "imgpipe.components.report.report",
    "imgpipe.pipeline.execution.failures",
    "tensorflow.keras",
    "tensorflow_data_validation",
    "tensorflow_model_analysis",
    "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor",
)
_SECONDS = 600

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(list(_LOADED))


@dataclass
class Cluster:
    """One run of a compiled pipeline.

    Attributes:
        spec: The parsed PipelineSpec.
        folder: Folder below which all files of the run are written.
        given: Parameters with which the run was started.
        number: Number of the run, counted from 1.
        user: Id of the user who runs the tasks; None for the user of the tests.
        cached: Names of the tasks that were taken from the cache.
        exit_codes: Exit code of each task that ran, by name.
        logs: Standard output and standard error of each task, by name.
        outputs: Artifacts that the tasks published, by task and output: ``{"name", "uri",
            "metadata"}``. The name is the number of the artifact in ML Metadata.
        values: Output parameters of each task, by name.
    """

    spec: dict[str, Any]
    folder: Path
    given: dict[str, Any] = field(default_factory=dict)
    number: int = 1
    user: int | None = None
    cached: set[str] = field(default_factory=set)
    exit_codes: dict[str, int] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _cache: dict[str, tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=dict)

    def again(self, **given: Any) -> Cluster:
        """Run the same file with other parameters and the cache of this run; return that run."""
        results = {name: type(getattr(self, name))() for name in _RESULTS}
        following = replace(self, given=given, number=self.number + 1, **results)
        following.run()
        return following

    @property
    def run_id(self) -> str:
        """The id of the run, in the form that the API server gives it."""
        return f"{self.number:08}-2222-3333-4444-555555555555"

    @property
    def tasks(self) -> dict[str, Any]:
        """The tasks of the graph."""
        return dict(self.spec["root"]["dag"]["tasks"])

    def facts(self) -> dict[str, Any]:
        """Assert that every task succeeded, and return the facts of the report."""
        failed = {name: self.logs[name][-2000:] for name, code in self.exit_codes.items() if code}
        assert not failed, "\n\n".join(f"{name}:\n{log}" for name, log in failed.items())
        assert set(self.exit_codes) == set(self.tasks)
        page = self.stored(self.outputs["Publishing"]["Report_report"]["uri"])
        assert (page / "report.html").is_file()
        return dict(json.loads((page / "facts.json").read_text()))

    def run(self) -> None:
        """Run the tasks in the order of the graph; after a failure, no further task is started."""
        waiting = self.tasks
        running: dict[futures.Future[int], str] = {}
        with futures.ThreadPoolExecutor(_AT_A_TIME) as pool:
            while True:
                for name in [name for name in waiting if self._ready(waiting[name])]:
                    running[pool.submit(self._task, name, waiting.pop(name))] = name
                if not running:
                    return
                done, _ = futures.wait(running, return_when=futures.FIRST_COMPLETED)
                for ended in done:
                    self.exit_codes[running.pop(ended)] = ended.result()

    def _ready(self, task: dict[str, Any]) -> bool:
        """Return whether no task has failed, and those that a task depends on have succeeded."""
        before = task.get("dependentTasks", ())
        return set(before) <= set(self.exit_codes) and not any(self.exit_codes.values())

    def stored(self, uri: str) -> Path:
        """Return the folder of the object store that holds an artifact."""
        assert uri.startswith(_SCHEME), uri
        return self.folder / "store" / uri.removeprefix(_SCHEME)

    def _component(self, task: dict[str, Any]) -> dict[str, Any]:
        return dict(self.spec["components"][task["componentRef"]["name"]])

    def _task(self, name: str, task: dict[str, Any]) -> int:
        """Run one task, or take it from the cache, and return its exit code."""
        pod = self.folder / "pods" / str(self.number) / name
        for part in ("work", "home", "tmp", "mounts"):
            (pod / part).mkdir(parents=True)
        label = self._component(task)["executorLabel"]
        declared = self.spec["deploymentSpec"]["executors"][label]["container"]
        given = self._executor_input(name, task, pod)
        key = _cache_key(declared, given)
        if task.get("cachingOptions", {}).get("enableCache") and key in self._cache:
            self.cached.add(name)
            self.outputs[name], self.values[name] = self._cache[key]
            return 0
        words = [*declared["command"], *declared["args"]]
        code, self.logs[name] = self._execute(
            pod, given, [word.replace("{{$}}", json.dumps(given)) for word in words]
        )
        if code == 0:
            self._publish(name, given)
            self._cache[key] = self.outputs[name], self.values[name]
        return code

    def _execute(self, pod: Path, given: dict[str, Any], words: list[str]) -> tuple[int, str]:
        """Run the container of a task, and return its exit code and its log."""
        for uri in _uris(given["inputs"]):
            _copy_files(self.stored(uri), _mounted(pod, uri))
        for uri in _uris(given["outputs"]):
            _mounted(pod, uri).parent.mkdir(parents=True, exist_ok=True)
        if self.user is not None:
            for path in (pod, *pod.rglob("*")):
                os.chown(path, self.user, self.user)
        places = {"HOME": str(pod / "home"), "TMPDIR": str(pod / "tmp")}
        variables = _environment(**places, **{ROOT: str(pod / "mounts")})
        code = _run(words, pod / "work", variables, pod / "log", self.user)
        if code == 0:
            for uri in _uris(given["outputs"]):
                _copy_files(_mounted(pod, uri), self.stored(uri))
        return code, (pod / "log").read_text(errors="replace")

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
        place = f"{root}/{pipeline}/{self.run_id}/{name}/{_RANDOM}"
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
        """Return an input parameter: a constant, a parameter of the run, or a task's output."""
        if "runtimeValue" in source:
            return source["runtimeValue"]["constant"]
        if output := source.get("taskOutputParameter"):
            assert output["producerTask"] in task["dependentTasks"]
            return self.values[output["producerTask"]][output["outputParameterKey"]]
        name = source["componentInputParameter"]
        declared = self.spec["root"]["inputDefinitions"]["parameters"][name]
        return self.given[name] if name in self.given else declared["defaultValue"]

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


def records_of(examples: Path) -> dict[str, list[bytes]]:
    """Return the records of an Examples artifact by split, in an order that is always the same."""
    from imgpipe.components.common.storage import records
    from imgpipe.models.names import feature_names

    return {
        split: sorted(map(records.serialise, records.iterate(str(examples), split)))
        for split in feature_names.SPLITS
    }


def _cache_key(declared: dict[str, Any], given: dict[str, Any]) -> str:
    """Return a text that is equal for tasks that the driver's cache holds to be the same."""
    inputs, outputs = given["inputs"], given["outputs"]
    seen = [
        {key: [one[part] for one in found["artifacts"]] for key, found in side["artifacts"].items()}
        for side, part in ((inputs, "name"), (outputs, "type"))
    ]
    words = [declared[part] for part in ("image", "command", "args")]
    parts = [*seen, inputs["parameterValues"], sorted(outputs["parameters"]), *words]
    return json.dumps(parts, sort_keys=True)


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


def _environment(**more: str) -> dict[str, str]:
    """Return the environment of a container.

    Rounding depends on the kernels of OpenBLAS and on oneDNN, and a container needs those of this
    process to end with the same weights.
    """
    from tensorflow.python.framework import test_util

    kernels = {key: value for key, value in os.environ.items() if key.startswith("OPENBLAS_")}
    kernels["TF_ENABLE_ONEDNN_OPTS"] = str(int(test_util.IsMklEnabled()))
    path = f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "HOME": "/", "TF_CPP_MIN_LOG_LEVEL": "2", **kernels, **more}


def _run(
    words: list[str], folder: Path, variables: dict[str, str], log: Path, user: int | None
) -> int:
    """Run the module of a command in a fork of the fork server.

    Args:
        words: The command and its arguments; it begins with `python -m MODULE`.
        folder: Working folder.
        variables: All environment variables.
        log: File that receives standard output and standard error.
        user: Id of the process's user and group; None for those of the tests.

    Returns:
        The exit code.
    """
    process = _forks.Process(target=_run_module, args=(words, folder, variables, log, user))
    process.start()
    process.join(_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"a task has not ended after {_SECONDS} s; see {log}")
    return process.exitcode


def _run_module(
    words: list[str], folder: Path, variables: dict[str, str], log: Path, user: int | None
) -> None:
    """Turn this process, which is the fork, into the container's process."""
    assert words[:2] == ["python", "-m"], words[:3]
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    if user is not None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = words[2:]
    runpy.run_module(words[2], run_name="__main__", alter_sys=True)
