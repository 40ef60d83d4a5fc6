"""The exit task of the compiled pipeline, which runs however the others end.

Kubeflow Pipelines has exit tasks only for a task that is a graph itself, as the ExitHandler of its
SDK makes them. So all other tasks move into one graph below the root.
"""

from __future__ import annotations

import json
from typing import Any

from imgpipe.components.report import run_folder

#: Name of the task that holds all others.
PIPELINE = "pipeline"
_COMPONENT = f"comp-{PIPELINE}"


def set_exit_task(spec: dict[str, Any], name: str) -> None:
    """Make one task of a PipelineSpec the exit task of all others.

    Args:
        spec: The PipelineSpec, which is changed. All of its tasks are at the top.
        name: Name of the task, which has no inputs from other tasks.
    """
    root = spec["root"]
    tasks = root["dag"]["tasks"]
    last = tasks.pop(name)
    parameters = root.get("inputDefinitions", {}).get("parameters", {})
    inner = {**root, "dag": {**root["dag"], "tasks": tasks}}
    spec["components"][_COMPONENT] = inner
    first: dict[str, Any] = {"componentRef": {"name": _COMPONENT}, "taskInfo": {"name": PIPELINE}}
    # The parameters of a run belong to the root, whose tasks have moved into a graph of their own.
    if parameters:
        passed = {key: {"componentInputParameter": key} for key in parameters}
        first["inputs"] = {"parameters": passed}
    last["dependentTasks"] = [PIPELINE]
    # It runs whether the others succeed or fail; by default, a task needs the success of those.
    last["triggerPolicy"] = {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    root["dag"] = {"tasks": {PIPELINE: first, name: last}}


def set_run_folder(spec: dict[str, Any], directory: str) -> None:
    """Tell each container which files to leave in the folder of the run, for the exit task.

    Args:
        spec: The PipelineSpec, which is changed. All of its tasks are at the top.
        directory: Folder of the run, in which `mounts.RUN` stands for the id of the run.
    """
    for name, task in spec["root"]["dag"]["tasks"].items():
        component = spec["components"][task["componentRef"]["name"]]
        shown = _shown(name, task, component)
        told = {"directory": directory, "component": name, "artifacts": shown}
        container = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        container["args"] += ["--run_folder", json.dumps(told)]


def _shown(name: str, task: dict[str, Any], component: dict[str, Any]) -> dict[str, str]:
    """Return the inputs and outputs that the report shows: name in the report by key."""
    producers = {}
    for key, source in task.get("inputs", {}).get("artifacts", {}).items():
        made = source["taskOutputArtifact"]
        producers[key] = (made["producerTask"], made["outputArtifactKey"])
    for key in component.get("outputDefinitions", {}).get("artifacts", {}):
        producers[key] = (name, key)
    found = {key: run_folder.shown(*producer) for key, producer in producers.items()}
    return {key: shown for key, shown in found.items() if shown}
