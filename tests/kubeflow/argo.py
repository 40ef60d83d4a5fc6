"""A fake Argo Workflows, which runs a workflow of KFP's compiler one pod after the other.

It supports the part of Argo's language that the compiler uses: DAGs, ``depends``, ``when``,
parameters, and containers that have files as outputs or a patch of their pod.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.kubeflow.loopback import Services
from tests.kubeflow.pod import PROGRAM, Pod

_PLACEHOLDER = re.compile(r"\{\{((?:inputs|outputs|tasks|workflow)\.[^{}]+|retries)\}\}")
_STATE = re.compile(r"([\w-]+)\.(Succeeded|Failed|Skipped|Errored|Omitted|Daemoned)")


@dataclass
class Workflow:
    """One run of a workflow.

    Attributes:
        spec: The workflow, as parsed JSON.
        services: The services that the pods use.
        folder: Folder below which the files of the pods are written.
        driver: Path of the program ``driver``.
        launcher: Path of the program ``launcher-v2``.
        claims: Folder of each PersistentVolumeClaim, by its name.
        states: State of each task: ``Succeeded``, ``Failed``, ``Skipped`` or ``Omitted``.
        logs: Log of each pod, by task; the name of a driver's task ends with ``-driver``.
        cached: Tasks whose outputs the driver took from an earlier run.
    """

    spec: dict[str, Any]
    services: Services
    folder: Path
    driver: Path
    launcher: Path
    claims: dict[str, Path]
    states: dict[str, str] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    cached: set[str] = field(default_factory=set)

    def run(self) -> str:
        """Run the workflow and return its state."""
        body = self.spec["spec"]
        self._templates = {template["name"]: template for template in body["templates"]}
        self._values = {
            f"workflow.parameters.{parameter['name']}": parameter["value"]
            for parameter in body["arguments"]["parameters"]
        }
        self._values |= {
            "workflow.name": "a-run",
            "workflow.creationTimestamp": "2026-01-01T00:00:00Z",
            "retries": "0",
        }
        state, _ = self._template(body["entrypoint"], {}, "entrypoint")
        return state

    def _template(self, name: str, given: dict[str, str], task: str) -> tuple[str, dict[str, str]]:
        """Run one template and return its state and its output parameters."""
        template = self._templates[name]
        values = dict(self._values)
        for parameter in template.get("inputs", {}).get("parameters", []):
            value = given.get(parameter["name"], parameter.get("default", ""))
            values[f"inputs.parameters.{parameter['name']}"] = value
        if "dag" in template:
            return self._dag(template["dag"]["tasks"], values), {}
        if "podSpecPatch" in template:
            return self._launch(template, values, task), {}
        return self._drive(template, values, task)

    def _dag(self, tasks: list[dict[str, Any]], values: dict[str, str]) -> str:
        """Run the tasks of a DAG in the order of their dependencies and return its state."""
        waiting = {task["name"]: task for task in tasks}
        states: dict[str, str] = {}
        values = dict(values)
        while waiting:
            task = next(task for task in waiting.values() if not _before(task) & set(waiting))
            name = task["name"]
            del waiting[name]
            states[name] = self._task(task, states, values)
            self.states[name] = states[name]
        return "Failed" if "Failed" in states.values() else "Succeeded"

    def _task(self, task: dict[str, Any], states: dict[str, str], values: dict[str, str]) -> str:
        """Run one task, unless its conditions do not hold; return its state."""
        name, depends = task["name"], task.get("depends", "")
        if depends and not _holds(depends, states):
            return "Omitted"
        if "when" in task and not _compares(_filled(task["when"], values)):
            return "Skipped"
        given = {
            parameter["name"]: _filled(parameter["value"], values)
            for parameter in task.get("arguments", {}).get("parameters", [])
        }
        if given.get("cached-decision") == "true":
            self.cached.add(name)
        state, outputs = self._template(task["template"], given, self._label(name, given))
        for key, value in outputs.items():
            values[f"tasks.{name}.outputs.parameters.{key}"] = value
        return state

    def _label(self, name: str, given: dict[str, str]) -> str:
        """Return the name of a pod's task; the name "executor" is that of every component's pod."""
        if name != "executor":
            return name
        command = json.loads(given["pod-spec-patch"])["containers"][0]["command"]
        component = json.loads(command[command.index("--component_spec") + 1])
        return str(component["executorLabel"]).removesuffix("_executor")

    def _drive(
        self, template: dict[str, Any], values: dict[str, str], task: str
    ) -> tuple[str, dict[str, str]]:
        """Run the driver in a pod and return its state and the output parameters that it wrote."""
        outputs = template["outputs"]["parameters"]
        for output in outputs:
            values[f"outputs.parameters.{output['name']}.path"] = output["valueFrom"]["path"]
        arguments = [_filled(word, values) for word in template["container"]["args"]]
        pod = Pod(self.folder / task, self.services.account, self.driver)
        code, log = pod.run([PROGRAM, *self._on_loopback(arguments)], self._environment(task), {})
        self.logs[task] = log
        found = {}
        for output in outputs:
            file = pod.file(output["valueFrom"]["path"])
            default = output["valueFrom"].get("default", "")
            found[output["name"]] = file.read_text() if file.is_file() else default
        return "Failed" if code else "Succeeded", found

    def _launch(self, template: dict[str, Any], values: dict[str, str], task: str) -> str:
        """Run the launcher with the component in a pod and return its state."""
        patch = json.loads(_filled(template["podSpecPatch"], values))
        (container,) = patch["containers"]
        environment = self._environment(task)
        command = [
            re.sub(r"\$\((\w+)\)", lambda found: environment[found[1]], word)
            for word in [*container["command"], *container.get("args", [])]
        ]
        claims = {
            volume["name"]: volume["persistentVolumeClaim"]["claimName"]
            for volume in patch.get("volumes", [])
        }
        mounts = {
            self.claims[claims[mount["name"]]]: mount["mountPath"]
            for mount in container.get("volumeMounts", [])
        }
        pod = Pod(self.folder / task, self.services.account, self.launcher)
        code, self.logs[task] = pod.run(command, environment, mounts)
        return "Failed" if code else "Succeeded"

    def _environment(self, task: str) -> dict[str, str]:
        """Return the environment variables that Argo and Kubernetes give to a pod."""
        return {
            "KFP_POD_NAME": f"a-run-{task.lower()}",
            "KFP_POD_UID": "00000000-0000-0000-0000-000000000001",
            "KFP_RETRY_INDEX": "0",
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self.services.kubernetes_port),
        }

    def _on_loopback(self, arguments: list[str]) -> list[str]:
        """Replace the addresses of services in a cluster by those on this machine."""
        changed = {
            "--mlmd_server_address": "127.0.0.1",
            "--mlmd_server_port": str(self.services.metadata_port),
            "--ml_pipeline_server_address": "127.0.0.1",
            "--ml_pipeline_server_port": str(self.services.pipelines_port),
        }
        before = ["", *arguments]
        return [changed.get(flag, word) for flag, word in zip(before, arguments, strict=False)]


def _filled(text: str, values: dict[str, str]) -> str:
    """Replace the placeholders in a text by their values; unknown ones become empty."""
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], ""), text)


def _before(task: dict[str, Any]) -> set[str]:
    """Return the names of the tasks that must have ended before this one."""
    return {name for name, _ in _STATE.findall(task.get("depends", ""))}


def _holds(depends: str, states: dict[str, str]) -> bool:
    """Evaluate a condition on states such as ``a.Succeeded && (b.Failed || b.Skipped)``."""
    words = _STATE.sub(lambda found: str(states[found[1]] == found[2]), depends)
    return bool(eval(words.replace("&&", " and ").replace("||", " or ").replace("!", " not ")))


def _compares(text: str) -> bool:
    """Evaluate a comparison such as ``'a' == 'b'``."""
    left, operator, right = re.split(r"\s*(!=|==)\s*", text)
    return (left.strip(" '\"") == right.strip(" '\"")) == (operator == "==")
