"""Groups of components that share a task, and so a container, of the compiled pipeline.

A task of Kubeflow Pipelines costs a pod for its driver, a pod of its own, and a start of Python,
TensorFlow and TFX. On a small set, that takes longer than most components do. The boundaries that
are left are those at which a run is worth continuing: what is read of the images, what is trained,
how it is judged.

Inputs and outputs of a group are named after the component and its output, such as
`ImageFilter_examples`. What one component of a group makes for another stays in the container.
Constant parameters are part of the description of the group, which the container gets as an
argument.
"""

from __future__ import annotations

import json
from typing import Any, TypeAlias

from imgpipe.pipeline.definition.plan import NEVER_CACHED

#: A part of a PipelineSpec, whose form Kubeflow Pipelines decides.
Spec: TypeAlias = dict[str, Any]
#: The components of each task, in the order in which they run.
GROUPS = {
    "Plan": ("Plan",),
    "Data": (
        *("ImageExampleGen", "ImageFilter", "StatisticsGen", "SchemaGen"),
        *("ExampleValidator", "DataGate"),
    ),
    "Training": ("FeatureBank", "ImageTrainer"),
    "Evaluation": ("ServingValidator", "ImageEvaluator"),
    "Publishing": ("ModelPusher", "Report"),
}
_OWNER = {name: title for title, names in GROUPS.items() for name in names}
#: Begins the names of the placeholders for what Plan determines; others are parameters of a run.
PLANNED = "plan_"
_OF_TFX = 6  # arguments of a container before those of Beam: three names, each with its value


def artifact_name(component: str, key: str) -> str:
    """Name of a component's output among the inputs and outputs of groups."""
    return f"{component}_{key}"


def group(spec: Spec, directory: str) -> None:
    """Replace the tasks of a PipelineSpec, one for each component, by one for each group.

    In `directory`, the folder of the run, `places.RUN` stands for the id of the run.
    """
    dag = spec["root"]["dag"]
    deployment = spec["deploymentSpec"]
    tasks = {}
    components = {}
    executors = {}
    for title, names in GROUPS.items():
        grouped = _Group(title)
        for name in names:
            task = dag["tasks"][name]
            component = spec["components"][task["componentRef"]["name"]]
            container = deployment["executors"][component["executorLabel"]]["container"]
            grouped.add(name, task.get("inputs", {}), component, container["args"])
        tasks[title] = grouped.task()
        components[title] = grouped.component()
        named = ("--components", json.dumps(grouped.described), "--input", "{{$}}")
        arguments = [*named, "--run_directory", directory, *container["args"][_OF_TFX:]]
        executors[grouped.label] = {"container": {**container, "args": arguments}}
    dag["tasks"] = tasks
    spec["components"] = components
    deployment["executors"] = executors


class _Group:
    """One group: its task, its component, and its description for `entry_point`.

    Attributes:
        label: Name of the container that runs it.
        described: Description of each of its components.
    """

    def __init__(self, title: str) -> None:
        self.label = f"{title}_executor"
        self.described: list[Spec] = []
        self._title = title
        self._names: set[str] = set()
        self._before: set[str] = set()
        #: Where the task takes its inputs from, and how the component declares them.
        self._sources: Spec = {"artifacts": {}, "parameters": {}}
        self._inputs: Spec = {"artifacts": {}, "parameters": {}}
        self._outputs: Spec = {"artifacts": {}, "parameters": {}}

    def add(self, name: str, given: Spec, component: Spec, arguments: list[str]) -> None:
        """Add a component with the inputs of its task, its declaration and its arguments."""
        self._names.add(name)
        declared = component.get("inputDefinitions", {})
        artifacts = {
            key: self._artifact(source["taskOutputArtifact"], declared["artifacts"][key])
            for key, source in given.get("artifacts", {}).items()
        }
        constants = {}
        parameters = {}
        for key, source in given.get("parameters", {}).items():
            if "runtimeValue" in source:
                constants[key] = source["runtimeValue"]["constant"]
            else:
                parameters[key] = self._parameter(source, declared["parameters"][key])
        written = component.get("outputDefinitions", {})
        outputs = written.get("artifacts", {})
        for key, output in outputs.items():
            self._outputs["artifacts"][artifact_name(name, key)] = output
        self._outputs["parameters"] |= written.get("parameters", {})
        self.described.append(
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

    def _artifact(self, source: Spec, declared: Spec) -> str:
        """Return the name of an input artifact, which the task reads if another group makes it."""
        producer = source["producerTask"]
        output = artifact_name(producer, source["outputArtifactKey"])
        owner = _OWNER[producer]
        if owner != self._title:
            read = {"producerTask": owner, "outputArtifactKey": output}
            self._sources["artifacts"][output] = {"taskOutputArtifact": read}
            self._inputs["artifacts"][output] = declared
            self._before.add(owner)
        return output

    def _parameter(self, source: Spec, declared: Spec) -> str:
        """Return the name of an input parameter: one of the run, or an output of Plan."""
        parameter: str = source["componentInputParameter"]
        if parameter.startswith(PLANNED):
            parameter = parameter.removeprefix(PLANNED)
            read = {"producerTask": "Plan", "outputParameterKey": parameter}
            source = {"taskOutputParameter": read}
            self._before.add("Plan")
        self._sources["parameters"][parameter] = source
        self._inputs["parameters"][parameter] = declared
        return parameter

    def task(self) -> Spec:
        """Return the task of the group."""
        return {
            "cachingOptions": {} if self._names & set(NEVER_CACHED) else {"enableCache": True},
            "componentRef": {"name": self._title},
            "dependentTasks": sorted(self._before),
            "inputs": self._sources,
            "taskInfo": {"name": self._title},
        }

    def component(self) -> Spec:
        """Return the declaration of the group."""
        return {
            "executorLabel": self.label,
            "inputDefinitions": self._inputs,
            "outputDefinitions": self._outputs,
        }
