"""The API server of Kubeflow Pipelines, asked through kfp's own client.

Its answers become the errors of the command line: a server that does not answer, a pipeline that
it refuses, and a task that failed, with the exit code that the same failure has on one machine.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgpipe.models.errors import ConfigError, DataRefused, ImgpipeError, ResourceError

if TYPE_CHECKING:
    from kfp.client import Client
    from kfp_server_api import V2beta1Run

_HEALTH = "/apis/v2beta1/healthz"
_LOG = "/apis/v1alpha1/runs/{run}/nodes/{pod}/log"
_CONNECT_SECONDS = 10
#: A server that restarts while a run is followed is asked again for this long.
_ABSENT_SECONDS = 300
_LOG_LINES = 20
_ENDED = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}
_BY_EXIT_CODE: dict[int, type[ImgpipeError]] = {2: ConfigError, 4: DataRefused, 5: ResourceError}
_EXIT_STATUS = re.compile(r"exit status (\d+)")


@dataclass(frozen=True)
class Address:
    """Where the API server is, and who asks.

    Attributes:
      host: URL, such as ``http://localhost:8080``.
      token: Bearer token, or None for a server without authentication.
      namespace: Namespace of a server with several users, or None.
    """

    host: str
    token: str | None = None
    namespace: str | None = None

    def check(self) -> None:
        """Ask the server whether it is there; this loads neither kfp nor TensorFlow.

        Raises:
          ConfigError: The host is no URL.
          ResourceError: Nothing answers there, or something else than Kubeflow Pipelines.
        """
        if not re.match(r"https?://[^/]", self.host):
            raise ConfigError(
                f"--host {self.host}: expected the URL of the API server of Kubeflow Pipelines, "
                "such as http://localhost:8080."
            )
        try:
            answer = self._read(_HEALTH)
        except urllib.error.HTTPError as error:
            raise ResourceError(self._refused(error.code, error.reason)) from error
        except OSError as error:
            reason = getattr(error, "reason", None) or error
            raise ResourceError(
                f"no API server of Kubeflow Pipelines answers at {self.host} ({reason}). Check "
                "--host, or make the server of a cluster reachable: "
                "kubectl port-forward -n kubeflow svc/ml-pipeline 8888, then "
                "--host http://localhost:8888"
            ) from error
        try:
            healthy = isinstance(json.loads(answer), dict)
        except ValueError:
            healthy = False
        if not healthy:
            raise ResourceError(
                f"what answers at {self.host} is not the API server of Kubeflow Pipelines: "
                f"expected JSON from {_HEALTH}, received {answer[:60]!r}. Check --host, and pass "
                "--token if a login page is in between."
            )

    def log(self, run: str, pod: str) -> str:
        """Read the log of one pod of a run; "" when the server has none."""
        try:
            text = self._read(_LOG.format(run=run, pod=pod))
        except OSError:
            return ""
        return "" if text.startswith('{"error') else text  # a failure is written with status 200

    def _read(self, path: str) -> str:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        request = urllib.request.Request(self.host.rstrip("/") + path, headers=headers)
        with urllib.request.urlopen(request, timeout=_CONNECT_SECONDS) as answer:
            return str(answer.read().decode("utf-8", "replace"))

    def _refused(self, status: int, reason: str) -> str:
        if status in (401, 403):
            return (
                f"{self.host} refused the request with {status} {reason}. Pass a token with "
                "--token that may use Kubeflow Pipelines, and the --namespace it is for."
            )
        return f"{self.host} answered {status} {reason}. Check --host and the server's own log."


class Server:
    """Runs and schedules on one API server.

    Args:
      address: Of the server, which has answered `Address.check`.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        with self._answered(), _quiet():
            self._client = self._connect()

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
          name: Shown in the list of runs.
          experiment: Name of the group of runs; it is made if it does not exist.
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
        """Start a run again and again; runs never overlap, and missed ones are not made up for.

        Args:
          pipeline: File of the compiled pipeline.
          name: Shown in the list of recurring runs.
          experiment: Name of the group of runs; it is made if it does not exist.
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
                max_concurrency=1,
                no_catchup=True,
                params=arguments,
                pipeline_package_path=str(pipeline),
                pipeline_root=root,
            )
        return str(recurring.recurring_run_id)

    def wait(self, run: str, every: float, changed: Callable[[str], object]) -> None:
        """Wait until a run has ended.

        Args:
          run: ID of the run.
          every: Seconds between two questions.
          changed: Called with each new state, such as ``RUNNING``.

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
        if state == "FAILED":
            raise self._failure(found)
        if state != "SUCCEEDED":
            raise ResourceError(
                f"the run {run} ended as {state} before its tasks had finished. Submit it again."
            )

    def _connect(self) -> Client:
        from kfp.client import Client

        return Client(
            host=self.address.host,
            existing_token=self.address.token,
            namespace=self.address.namespace or "kubeflow",
        )

    def _experiment(self, name: str) -> str:
        made = self._client.create_experiment(name, namespace=self.address.namespace)
        return str(made.experiment_id)

    def _failure(self, run: V2beta1Run) -> ImgpipeError:
        """Describe a failed run by the log of the task that failed first."""
        details = run.run_details.task_details if run.run_details else None
        failed = [task for task in details or () if task.state == "FAILED"]
        failed.sort(key=lambda task: str(task.end_time or task.start_time or ""))
        for task in failed:
            if log := self.address.log(run.run_id, task.pod_name) if task.pod_name else "":
                return _failed_task(task.display_name, log)
        said = [task.error.message for task in failed if task.error and task.error.message]
        if not said and run.error:
            said = [run.error.message]
        names = ", ".join(sorted({task.display_name for task in failed})) or "none is named"
        return ImgpipeError(
            f"the run {run.run_id} failed (failed tasks: {names}), and the server has no log of "
            f"them. It says: {said[0] if said else 'nothing'}. Look at the run in its web page."
        )

    @contextlib.contextmanager
    def _answered(self) -> Iterator[None]:
        """Turn what the client raises into errors for people."""
        import kfp_server_api
        from urllib3 import exceptions

        try:
            yield
        except kfp_server_api.ApiException as error:
            if error.status in (401, 403) or error.status >= 500:
                text = self.address._refused(error.status, error.reason)
                raise ResourceError(f"{text} It says: {_said(error.body)}") from error
            raise ConfigError(
                f"{self.address.host} refused the request: {_said(error.body)}"
            ) from error
        except (exceptions.HTTPError, OSError) as error:
            raise ResourceError(
                f"the API server of Kubeflow Pipelines at {self.address.host} does not answer any "
                f"more ({error}). A run that was submitted goes on; look at it in its web page."
            ) from error


def _failed_task(name: str, log: str) -> ImgpipeError:
    """Build the error of a failed task.

    The launcher itself always ends with 1; its last line names the code of the component.
    """
    codes = _EXIT_STATUS.findall(log)
    code = int(codes[-1]) if codes else 1
    lines = [line for line in log.splitlines() if line.strip()][-_LOG_LINES:]
    kind = _BY_EXIT_CODE.get(code, ImgpipeError)
    return kind(f"the task {name} failed. The last lines of its log:\n" + "\n".join(lines))


def _said(body: object) -> str:
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
