"""The pods of a run, read from Kubernetes: why a task waits or failed, and the verdict.

The API server of Kubeflow Pipelines names no pods, and stops recording tasks when the status of a
run grows over 1 MiB, so that only Kubernetes knows them. Pods carry the id of their run as a label.
"""

from __future__ import annotations

import os
import re
from typing import Any

from imgpipe.models.errors import ConfigError, DataRefused, ImgpipeError, ResourceError

_LOG_LINES = 20  # the cause, and what the launcher writes after it
_BY_EXIT_CODE: dict[int, type[ImgpipeError]] = {2: ConfigError, 4: DataRefused, 5: ResourceError}
_NODE = "workflows.argoproj.io/node-name"  # such as hands-x7.root.DataGate.executor(0)
_TASK = re.compile(r"(\w+)(?:\(\d+\))?\.executor(?:\(\d+\))?$")
_VERDICT = re.compile(r"the model is ((?:not )?blessed\b.*)")  # in the log of Publishing
#: The launcher itself always ends with 1; its last line names the code of the component.
_EXIT_STATUS = re.compile(r"exit status (\d+)")


class Pods:
    """The pods of one run.

    Args:
        run: ID of the run.
        namespace: Namespace of the run.

    Attributes:
        fault: Why the pods cannot be read.
    """

    def __init__(self, run: str, namespace: str) -> None:
        from kubernetes import client, config

        self._run, self._namespace, self.fault = run, namespace, "its pods are gone"
        try:
            # kubernetes reads the variable only when it is imported.
            config.load_kube_config(os.environ.get("KUBECONFIG"))
            self._api = client.CoreV1Api()
        except Exception as error:  # a missing or damaged kubeconfig has errors of many kinds
            self._api, self.fault = None, str(error).strip()

    def _pods(self) -> list[tuple[str, Any]]:
        """Return the pods that run components, with their names; none without access."""
        try:
            found = self._api and self._api.list_namespaced_pod(
                self._namespace, label_selector=f"pipeline/runid={self._run}"
            )
        except Exception as error:
            found, self.fault = None, str(getattr(error, "reason", None) or error)
        pods = found.items if found else ()
        nodes = [((pod.metadata.annotations or {}).get(_NODE, ""), pod) for pod in pods]
        return [(task[1], pod) for node, pod in nodes if (task := _TASK.search(node))]

    def waiting(self) -> str:
        """Return what Kubernetes says about a pod that does not start, "" if there is none."""
        for task, pod in self._pods():
            containers = [one.state.waiting for one in pod.status.container_statuses or ()]
            said = [one for one in containers if one and not (one.reason or "ing").endswith("ing")]
            said += [
                one
                for one in pod.status.conditions or ()
                if (one.type, one.status) == ("PodScheduled", "False")
            ]
            if said:
                return f"{task}: {said[0].reason} {said[0].message or ''}".strip()
        return ""

    def verdict(self) -> str:
        """Return the verdict, which begins with "blessed" or "not blessed"; "" if unknown."""
        logs = [self._log(pod) for task, pod in self._pods() if task == "Publishing"]
        return next(iter(_VERDICT.findall("\n".join(logs))), "")

    def failure(self) -> ImgpipeError:
        """Describe why the run failed, by the log of the task that failed first."""
        pods = self._pods()
        recovered = {task for task, pod in pods if pod.status.phase == "Succeeded"}
        failed = [
            (t, pod) for t, pod in pods if pod.status.phase == "Failed" and t not in recovered
        ]
        if not failed:
            return ImgpipeError(
                f"the run {self._run} failed, and its pods cannot be read here ({self.fault}). The "
                "cause is in failure.json in the run's folder, and in the web page of Kubeflow."
            )
        task, pod = min(failed, key=lambda one: one[1].status.start_time)
        log = self._log(pod)
        lines = [line for line in log.splitlines() if line.strip()][-_LOG_LINES:]
        told = f"the task {task} failed. The last lines of its log:\n" + "\n".join(lines)
        if "signal: killed" in log:
            return ResourceError(
                f"the task {task} was killed, most likely for want of memory: raise "
                f"kubeflow.resources.{task}.memory.\n{told}"
            )
        codes = _EXIT_STATUS.findall(log)
        return _BY_EXIT_CODE.get(int(codes[-1]) if codes else 1, ImgpipeError)(told)

    def _log(self, pod: Any) -> str:
        try:
            name = pod.metadata.name
            log = self._api.read_namespaced_pod_log(name, self._namespace, container="main")
        except Exception:  # the pod is gone, or this user may not read its log
            return ""
        return str(log)
