"""Groups of components that share a task, and so a container, of the compiled pipeline.

A task of Kubeflow Pipelines costs a pod for its driver, a pod of its own, and a start of Python,
TensorFlow and TFX. On a small set, that takes longer than most components do. The boundaries that
are left are those at which a run is worth continuing: what is read of the images, what is trained,
how it is judged.

Inputs and outputs of a group are named after the component and its output, such as
``ImageFilter_examples``. What one component of a group makes for another stays in the container.
Constant parameters are part of the description of the group, which the container gets as an
argument.
"""

from __future__ import annotations

import json
from typing import Any

from imgpipe.pipeline.graph import NEVER_CACHED

#: The components of each task, in the order in which they run.
GROUPS = {
    "Plan": ("Plan",),
    "Data": (
        *("Baseline", "ImageExampleGen", "ImageFilter", "StatisticsGen", "SchemaGen"),
        *("ExampleValidator", "DataGate"),
    ),
    "Training": ("FeatureBank", "ImageTrainer"),
    "Evaluation": ("ServingValidator", "Predictor", "ImageEvaluator"),
    "Publishing": ("ModelPusher", "Report"),
}
_OWNER = {name: title for title, names in GROUPS.items() for name in names}
#: Begins the names of the placeholders for what Plan determines; others are parameters of a run.
PLANNED = "plan_"
_OF_TFX = 6  # arguments of a container before those of Beam: three names, each with its value


def artifact_name(component: str, key: str) -> str:
    """Name of a component's output among the inputs and outputs of groups."""
    return f"{component}_{key}"


def group(spec: dict[str, Any], directory: str) -> None:
    """Replace the tasks of a PipelineSpec, one for each component, by one for each group.

    Args:
        spec: The PipelineSpec, which is changed. All of its tasks are at the top.
        directory: Folder of the run, in which `mounts.RUN` stands for the id of the run.
    """
    dag, deployment = spec["root"]["dag"], spec["deploymentSpec"]
    tasks, components, executors = {}, {}, {}
    for title, names in GROUPS.items():
        parts = {}
        for name in names:
            task = dag["tasks"][name]
            component = spec["components"][task["componentRef"]["name"]]
            container = deployment["executors"][component["executorLabel"]]["container"]
            parts[name] = task.get("inputs", {}), component, container["args"]
        tasks[title], components[title], described = _grouped(title, parts)
        named = "--components", json.dumps(described), "--input", "{{$}}"
        arguments = [*named, "--run_directory", directory, *container["args"][_OF_TFX:]]
        executors[f"{title}_executor"] = {"container": {**container, "args": arguments}}
    dag["tasks"], spec["components"], deployment["executors"] = tasks, components, executors


def _grouped(title: str, parts: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], list[Any]]:
    """Return the task and the component of a group, and its description for `entry_point`.

    Args:
        title: Name of the group.
        parts: Inputs of the task, component and arguments of the container, by component.
    """
    kinds = ("artifacts", "parameters")
    three: list[dict[str, dict[str, Any]]] = [{kind: {} for kind in kinds} for _ in range(3)]
    inputs, given, made = three  # of the task, and of the component
    described, before = [], set()
    for name, (wanted, component, arguments) in parts.items():
        declared = component.get("inputDefinitions")
        artifacts, constants, parameters = {}, {}, {}
        for key, source in wanted.get("artifacts", {}).items():
            producer = source["taskOutputArtifact"]["producerTask"]
            output = artifact_name(producer, source["taskOutputArtifact"]["outputArtifactKey"])
            artifacts[key] = output
            if (owner := _OWNER[producer]) != title:
                read = {"producerTask": owner, "outputArtifactKey": output}
                inputs["artifacts"][output] = {"taskOutputArtifact": read}
                given["artifacts"][output] = declared["artifacts"][key]
                before.add(owner)
        for key, source in wanted.get("parameters", {}).items():
            if "runtimeValue" in source:
                constants[key] = source["runtimeValue"]["constant"]
                continue
            parameter = source["componentInputParameter"]
            if parameter.startswith(PLANNED):
                parameter = parameter.removeprefix(PLANNED)
                read = {"producerTask": "Plan", "outputParameterKey": parameter}
                source = {"taskOutputParameter": read}
                before.add("Plan")
            parameters[key] = parameter
            inputs["parameters"][parameter] = source
            given["parameters"][parameter] = declared["parameters"][key]
        written = component.get("outputDefinitions", {})
        outputs = written.get("artifacts", {})
        made["artifacts"] |= {artifact_name(name, key): one for key, one in outputs.items()}
        made["parameters"] |= written.get("parameters", {})
        described.append(
            {
                "name": name,
                "executor": arguments[1],
                "spec": json.loads(arguments[_OF_TFX - 1]),
                "artifacts": artifacts,
                "constants": constants,
                "parameters": parameters,
                "outputs": list(outputs),
            }
        )
    task = {
        "cachingOptions": {} if parts.keys() & set(NEVER_CACHED) else {"enableCache": True},
        "componentRef": {"name": title},
        "dependentTasks": sorted(before),
        "inputs": inputs,
        "taskInfo": {"name": title},
    }
    label = f"{title}_executor"
    joined = {"executorLabel": label, "inputDefinitions": given, "outputDefinitions": made}
    return task, joined, described
