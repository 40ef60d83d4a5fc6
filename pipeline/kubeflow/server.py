"""Starts, schedules and follows runs on Kubeflow Pipelines, with kfp's own client.

Failures become errors of the command line: a server that does not answer, a pipeline that it
refuses, and a task that failed. The exit code is that of the same failure on one machine.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgpipe.models.errors import ConfigError, DataRefused, ImgpipeError, ResourceError
from imgpipe.pipeline.kubeflow.address import Address

if TYPE_CHECKING:
    from kfp_server_api import V2beta1PipelineTaskDetail, V2beta1Run

#: Seconds for which a server that does not answer, such as one that restarts, is asked again.
_ABSENT_SECONDS = 300
_LOG_LINES = 20  # the cause, and what the launcher writes after it
_ENDED = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}
_BY_EXIT_CODE: dict[int, type[ImgpipeError]] = {2: ConfigError, 4: DataRefused, 5: ResourceError}
#: The verdict in the log of the component Report.
_VERDICT = re.compile(r"the model is ((?:not )?blessed\b.*)")
_EXIT_STATUS = re.compile(r"exit status (\d+)")


class Server:
    """Runs and recurring runs on one API server.

    Args:
        address: Address of the server, which has answered `Address.check`.
        namespace: Namespace of a server with several users, or None.
    """

    def __init__(self, address: Address, namespace: str | None = None) -> None:
        self.address, self._namespace = address, namespace
        with self._answered(), _quiet():
            from kfp.client import Client

            self._client = Client(
                host=address.host,
                existing_token=address.token,
                namespace=namespace or "kubeflow",  # the client's own default
            )

    def submit(
        self,
        pipeline: Path,
        name: str,
        experiment: str,
        arguments: dict[str, Any],
        root: str | None,
    ) -> str:
        """Start a run.

        Args:
            pipeline: File of the compiled pipeline.
            name: Name of the run in the list of runs.
            experiment: Name of the group of runs, which is created if it does not exist.
            arguments: Values of the pipeline's parameters.
            root: URI of all artifacts, or None for the pipeline's default.

        Returns:
            The run's ID.

        Raises:
            ConfigError: The server refuses the pipeline or the arguments.
            ResourceError: The server does not answer, or refuses the caller.
        """
        with self._answered(), _quiet():
            run = self._client.run_pipeline(
                self._experiment(experiment),
                name,
                str(pipeline),
                params=arguments,
                pipeline_root=root,
            )
        return str(run.run_id)

    def schedule(
        self,
        pipeline: Path,
        name: str,
        experiment: str,
        arguments: dict[str, Any],
        root: str | None,
        *,
        cron: str | None,
        seconds: int | None,
    ) -> str:
        """Start a run at regular times. Runs never overlap, and missed runs are not repeated.

        Args:
            pipeline: File of the compiled pipeline.
            name: Name in the list of recurring runs.
            experiment: Name of the group of runs, which is created if it does not exist.
            arguments: Values of the pipeline's parameters.
            root: URI of all artifacts, or None for the pipeline's default.
            cron: Times as a cron expression of six fields, of which the first is the second.
            seconds: Time between two runs, instead of `cron`.

        Returns:
            The ID of the recurring run.

        Raises:
            ConfigError: The server refuses the pipeline, the arguments or the times.
            ResourceError: The server does not answer, or refuses the caller.
        """
        with self._answered(), _quiet():
            recurring = self._client.create_recurring_run(
                self._experiment(experiment),
                name,
                cron_expression=cron,
                interval_second=seconds,
                max_concurrency=1,  # two runs would write into the same output folder
                no_catchup=True,
                params=arguments,
                pipeline_package_path=str(pipeline),
                pipeline_root=root,
            )
        return str(recurring.recurring_run_id)

    def wait(self, run: str, every: float, changed: Callable[[str], object]) -> str:
        """Wait until a run has ended.

        Args:
            run: ID of the run.
            every: Seconds between two requests for the state.
            changed: Called with each new state, such as ``RUNNING``.

        Returns:
            The verdict that the task Report wrote into its log, beginning with ``blessed`` or
            ``not blessed``; "" if the server has no such log.

        Raises:
            ImgpipeError: A task failed; the message ends with the last lines of its log, and the
                exit code is that of a run on one machine.
            ResourceError: The run was canceled, or the server is gone.
        """
        state = ""
        answered = time.monotonic()
        while state not in _ENDED:
            try:
                with self._answered():
                    found = self._client.get_run(run)
            except ResourceError:
                if time.monotonic() - answered > _ABSENT_SECONDS:
                    raise
            else:
                answered = time.monotonic()
                if found.state and found.state != state:
                    state = found.state
                    changed(state)
            if state not in _ENDED:
                time.sleep(every)
        tasks = found.run_details.task_details if found.run_details else None
        pods = _Pods(tasks or [])
        if state == "FAILED":
            raise self._failure(found, pods)
        if state != "SUCCEEDED":
            raise ResourceError(
                f"the run {run} ended as {state} before its tasks had finished. Submit it again."
            )
        logs = (self.address.log(run, pod) for pod in pods.of("Report"))
        verdicts = (verdict for log in logs for verdict in _VERDICT.findall(log))
        return next(verdicts, "")

    def _experiment(self, name: str) -> str:
        made = self._client.create_experiment(name, namespace=self._namespace)
        return str(made.experiment_id)

    def _failure(self, run: V2beta1Run, pods: _Pods) -> ImgpipeError:
        """Describe a failed run by the log of the task that failed first."""
        # The first one is the cause; the graphs around it fail after it.
        failed = sorted(pods.failed(), key=lambda task: str(task.end_time or task.start_time or ""))
        for task in failed:
            if log := self.address.log(run.run_id, task.pod_name) if task.pod_name else "":
                return _failed_task(pods.name(task), log)
        messages = [task.error.message for task in failed if task.error and task.error.message]
        if not messages and run.error:
            messages = [run.error.message]
        message = messages[0] if messages else "nothing"
        names = ", ".join(sorted({pods.name(task) for task in failed})) or "none is named"
        return ImgpipeError(
            f"the run {run.run_id} failed (failed tasks: {names}), and the server has no log of "
            f"them. It says: {message}. Look at the run in its web page."
        )

    @contextlib.contextmanager
    def _answered(self) -> Iterator[None]:
        """Turn what the client raises into errors for people."""
        import kfp_server_api
        from urllib3 import exceptions

        try:
            yield
        except kfp_server_api.ApiException as error:
            # Not the pipeline is at fault, but the server or the caller's rights.
            if error.status in (401, 403) or error.status >= 500:
                text = self.address.refusal(error.status, error.reason)
                raise ResourceError(f"{text} It says: {_sentence_in(error.body)}") from error
            raise ConfigError(
                f"{self.address.host} refused the request: {_sentence_in(error.body)}"
            ) from error
        except (exceptions.HTTPError, OSError) as error:
            raise ResourceError(
                f"the API server of Kubeflow Pipelines at {self.address.host} no longer "
                f"responds ({error}). A run that was submitted keeps running; look at it in its "
                "web page."
            ) from error


class _Pods:
    """The tasks of a run, which form a tree with pods as its leaves."""

    def __init__(self, tasks: Sequence[V2beta1PipelineTaskDetail]) -> None:
        self.tasks = tasks
        self._parents = {
            child.pod_name: task for task in tasks for child in task.child_tasks or () if child
        }

    def name(self, task: V2beta1PipelineTaskDetail) -> str:
        """Find the name of the component. Its pods are called executor, numbered if retried."""
        while task.display_name.startswith("executor") and task.pod_name in self._parents:
            task = self._parents[task.pod_name]
        return str(task.display_name)

    def failed(self) -> list[V2beta1PipelineTaskDetail]:
        """Find the tasks that failed, without the attempts after which a retry succeeded."""
        failed = [task for task in self.tasks if task.state == "FAILED"]
        above = [(task, self._parents.get(task.pod_name)) for task in failed]
        return [task for task, parent in above if not parent or parent.state != "SUCCEEDED"]

    def of(self, component: str) -> list[str]:
        """Find the pods of a component."""
        return [task.pod_name for task in self.tasks if self.name(task) == component]


def _failed_task(name: str, log: str) -> ImgpipeError:
    """Build the error of a failed task.

    The launcher itself always ends with 1; its last line names the code of the component.
    """
    codes = _EXIT_STATUS.findall(log)
    code = int(codes[-1]) if codes else 1
    lines = [line for line in log.splitlines() if line.strip()][-_LOG_LINES:]
    kind = _BY_EXIT_CODE.get(code, ImgpipeError)
    return kind(f"the task {name} failed. The last lines of its log:\n" + "\n".join(lines))


def _sentence_in(body: object) -> str:
    """Find the sentence in an answer of the API server."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body or "nothing")
    with contextlib.suppress(ValueError, AttributeError):
        answer = json.loads(text)
        text = answer.get("message") or answer.get("error_message") or answer.get("error") or text
    return str(text).strip()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what kfp's client prints and warns of away from standard output."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
