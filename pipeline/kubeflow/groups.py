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
    "Training": ("FeatureBank", "ImageTrainer", "CrossValidator"),
    "Evaluation": ("ServingValidator", "Predictor", "ImageEvaluator"),
    "Publishing": ("ModelPusher", "Report"),
}
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
    tasks, components = spec["root"]["dag"]["tasks"], spec["components"]
    executors = spec["deploymentSpec"]["executors"]
    owner = {name: title for title, names in GROUPS.items() for name in names}
    grouped = {}
    for title, names in GROUPS.items():
        made = _Group(title, owner)
        for name in names:
            if name in tasks:  # the settings leave some out, such as CrossValidator
                component = components[tasks[name]["componentRef"]["name"]]
                container = executors[component["executorLabel"]]["container"]
                made.add(name, tasks[name], component, container["args"])
        grouped[title] = made, {**container, "args": made.arguments(directory)}
    spec["root"]["dag"]["tasks"] = {title: made.task() for title, (made, _) in grouped.items()}
    spec["components"] = {title: made.component for title, (made, _) in grouped.items()}
    spec["deploymentSpec"]["executors"] = {
        f"{title}_executor": {"container": container} for title, (_, container) in grouped.items()
    }


class _Group:
    """One task under construction."""

    def __init__(self, title: str, owner: dict[str, str]) -> None:
        self._title, self._owner = title, owner
        self._described: list[dict[str, Any]] = []
        self._beam: list[str] = []
        self._inputs: dict[str, Any] = {"artifacts": {}, "parameters": {}}
        self.component: dict[str, Any] = {
            "executorLabel": f"{title}_executor",
            "inputDefinitions": {"artifacts": {}, "parameters": {}},
            "outputDefinitions": {"artifacts": {}, "parameters": {}},
        }

    def add(
        self, name: str, task: dict[str, Any], component: dict[str, Any], arguments: list[str]
    ) -> None:
        """Add a component, with its task and the arguments of its container."""
        wanted, declared = task.get("inputs", {}), component.get("inputDefinitions", {})
        written = component.get("outputDefinitions", {})
        given, artifacts, constants, parameters = self.component["inputDefinitions"], {}, {}, {}
        for key, source in wanted.get("artifacts", {}).items():
            made = source["taskOutputArtifact"]
            producer, output = made["producerTask"], made["outputArtifactKey"]
            artifacts[key] = artifact = artifact_name(producer, output)
            if self._owner[producer] != self._title:
                given["artifacts"][artifact] = declared["artifacts"][key]
                self._inputs["artifacts"][artifact] = {
                    "taskOutputArtifact": {
                        "producerTask": self._owner[producer],
                        "outputArtifactKey": artifact,
                    }
                }
        for key, source in wanted.get("parameters", {}).items():
            if "runtimeValue" in source:
                constants[key] = source["runtimeValue"]["constant"]
                continue
            name_given = source["componentInputParameter"]
            parameters[key] = parameter = name_given.removeprefix(PLANNED)
            given["parameters"][parameter] = declared["parameters"][key]
            made = {"producerTask": "Plan", "outputParameterKey": parameter}
            planned = {"taskOutputParameter": made}
            self._inputs["parameters"][parameter] = source if parameter == name_given else planned
        for key, described in written.get("artifacts", {}).items():
            self.component["outputDefinitions"]["artifacts"][artifact_name(name, key)] = described
        self.component["outputDefinitions"]["parameters"] |= written.get("parameters", {})
        self._beam = arguments[_OF_TFX:]
        self._described.append(
            {
                "name": name,
                "executor": arguments[1],
                "spec": json.loads(arguments[_OF_TFX - 1]),
                "artifacts": artifacts,
                "constants": constants,
                "parameters": parameters,
                "outputs": list(written.get("artifacts", {})),
            }
        )

    def arguments(self, directory: str) -> list[str]:
        """Return the arguments of the container, as `entry_point` reads them."""
        described = json.dumps(self._described)
        named = ("--components", described, "--input", "{{$}}", "--run_directory", directory)
        return [*named, *self._beam]

    def task(self) -> dict[str, Any]:
        """Return the task, which depends on the tasks whose outputs it reads."""
        sources = [*self._inputs["artifacts"].values(), *self._inputs["parameters"].values()]
        found = [one.get("taskOutputArtifact") or one.get("taskOutputParameter") for one in sources]
        cached = not {one["name"] for one in self._described} & set(NEVER_CACHED)
        return {
            "cachingOptions": {"enableCache": True} if cached else {},
            "componentRef": {"name": self._title},
            "dependentTasks": sorted({one["producerTask"] for one in found if one}),
            "inputs": self._inputs,
            "taskInfo": {"name": self._title},
        }
