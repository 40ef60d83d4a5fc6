"""`imgpipe kubeflow submit`: one run of a compiled pipeline on Kubeflow Pipelines."""

from __future__ import annotations

import contextlib
import io
import re
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from imgpipe.models.errors import ConfigError, DataRefused, ImgpipeError, ResourceError
from imgpipe.pipeline.command_line.terminal import new_console, say
from imgpipe.pipeline.commands.kubeflow import compile as compiling

app = typer.Typer()

_EXAMPLES = "Examples:\n\n  imgpipe kubeflow submit pipeline.yaml --param epochs=12 --wait"
_SECONDS = 5.0  # between two requests for the state of the run
_ABSENT_SECONDS = 300  # for which a server that restarts is asked again
_PENDING_SECONDS = 60  # after which it is said why a pod does not start
_LOG_LINES = 12  # the cause of a failure and what came before it
_NODE = "workflows.argoproj.io/node-name"  # such as hands-x7(0).root(0).Data(0).executor(0)
_TASK = re.compile(r"\.([\w-]+)[()\d]*(?:\.executor[()\d]*)?$")  # Data, or Data-driver
_LAUNCHER = re.compile(r"[IWEF]\d{4} |time=|Error: ")  # begins lines that are not the component's
_VERDICT = re.compile(r"the model is (pushed|unchanged|refused): (.*)")  # in the log of Publishing
_ENDED = re.compile(r"failed to execute component: (.*)")  # by the launcher, whose own code is 1
_STUCK = re.compile("Unschedulable|Err|InvalidImageName|BackOff")  # why a pod does not start


@app.command("submit", epilog=_EXAMPLES)
def command(
    file: Annotated[Path, typer.Argument(help="File that `imgpipe kubeflow compile` wrote.")],
    host: Annotated[
        str, typer.Option(envvar="KF_PIPELINES_ENDPOINT", help="URL of the API server.")
    ] = "http://localhost:8888",
    root: Annotated[str, typer.Option(metavar="URI", help="Folder of all artifacts.")] = "",
    param: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Parameter; repeatable.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end and exit code.")] = False,
    name: Annotated[str | None, typer.Option(help="Shown in the list of runs.")] = None,
    experiment: Annotated[str, typer.Option(help="Group of runs, by name.")] = "imgpipe",
    namespace: Annotated[str, typer.Option(help="Namespace of the runs.")] = "kubeflow",
    token: Annotated[
        str | None, typer.Option(envvar="IMGPIPE_KUBEFLOW_TOKEN", help="Bearer token.")
    ] = None,
) -> None:
    """Run a compiled pipeline on a Kubeflow Pipelines server."""
    compiling.require_kfp()
    usual_root, values = _read(file, param or ())
    root = root or usual_root  # the API server itself ignores the root in the file
    compiling.check_root(root)
    described = str(file), values, name, experiment, namespace, root
    with _answered(host):
        from kfp.client import Client

        with contextlib.redirect_stdout(io.StringIO()):  # kfp prints links
            client = Client(host, namespace=namespace, existing_token=token)
            run = client.create_run_from_pipeline_package(*described).run_id
        say(new_console(), f"submitted the run {run}")
        if wait:
            raise typer.Exit(_wait(client, host, namespace, run))


def _read(file: Path, given: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the root in a compiled pipeline, and the given values of its parameters."""
    import yaml

    from imgpipe.pipeline.configuration import config
    from imgpipe.pipeline.configuration.given_settings import assigned
    from imgpipe.pipeline.definition import plan

    try:
        spec, _ = yaml.safe_load_all(file.read_text(encoding="utf-8"))
        root = spec["defaultPipelineRoot"]
        parameters = spec["root"]["inputDefinitions"]["parameters"]
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{file} is not a compiled pipeline ({' '.join(str(error).split())[:200]}). Write one "
            "with `imgpipe kubeflow compile`."
        ) from error
    values = {name: value for name, _, value in (text.partition("=") for text in given)}
    if unknown := values.keys() - parameters:
        raise ConfigError(
            f"--param {min(unknown)}: expected NAME=VALUE with one of the pipeline's parameters: "
            f"{', '.join(sorted(parameters))}. Other settings are fixed by the compilation."
        )
    assignments = [f"{plan.RUN_SETTINGS[name]}={value}" for name, value in values.items()]
    checked = plan.settings(config.build({}, assigned(assignments), "--param"))
    return root, {name: checked[name] for name in values}


def _wait(client: Any, host: str, namespace: str, run: str) -> int:
    """Return 0 if a run ends with a published model, 3 if without, or raise what ended it."""
    import kubernetes

    console = new_console()
    hidden = False
    try:
        _pods(namespace, run)
    except (kubernetes.config.ConfigException, kubernetes.client.ApiException) as error:
        hidden = getattr(error, "status", 403) in (401, 403)
        if not hidden:
            raise
        why = getattr(error, "reason", error)
        say(console, f"no pods can be listed, so only the run's state is known: {why}")
    state = told = ""
    started = answered = time.monotonic()
    while state not in ("SUCCEEDED", "FAILED", "CANCELED"):
        time.sleep(_SECONDS)
        try:
            with _answered(host):
                answer = client.get_run(run)
                pods = [] if hidden else _pods(namespace, run)
        except ResourceError:
            if time.monotonic() - answered > _ABSENT_SECONDS:
                raise
            continue
        answered = time.monotonic()
        state = str(answer.state)
        cause = _waiting(pods) if answered - started > _PENDING_SECONDS else ""
        said = f"a task cannot start: {cause}" if cause else state.lower()
        if said != told:
            say(console, said)
            told = said
    if {"CANCELING", "CANCELED"} & {change.state for change in answer.state_history or ()}:
        raise ResourceError(f"the run {run} was cancelled. Submit it again.")  # it is FAILED now
    if hidden and state == "SUCCEEDED":
        return 0
    if not pods:
        why = "has failed" if hidden else "has ended, and its pods are gone"
        message = f"the run {run} {why}. See report.html or failure.json in its folder."
        raise (ImgpipeError if hidden else ResourceError)(message)
    published, verdict = _verdict(*pods[-1])
    say(console, verdict)
    return 0 if published else 3


def _pods(namespace: str, run: str) -> list[tuple[str, Any]]:
    """Return the pods of a run by age, with their names, such as Data and Data-driver."""
    from kubernetes import client, config

    config.load_kube_config()  # each time, because tokens expire
    label = f"pipeline/runid={run}"  # the API server of Kubeflow Pipelines names no pods
    pods = client.CoreV1Api().list_namespaced_pod(namespace, label_selector=label).items
    pods.sort(key=lambda pod: pod.metadata.creation_timestamp)
    return [(_TASK.findall(pod.metadata.annotations[_NODE])[0], pod) for pod in pods]


def _waiting(pods: Sequence[tuple[str, Any]]) -> str:
    """Return what Kubernetes says about a pod that does not start, "" if there is none."""
    for task, pod in pods:
        waiting = [container.state.waiting for container in pod.status.container_statuses or ()]
        for cause in (*waiting, *(pod.status.conditions or ())):
            if cause and _STUCK.search(cause.reason or ""):
                return f"{task}: {cause.reason} {cause.message or ''}".strip()
    return ""


def _verdict(task: str, pod: Any) -> tuple[bool, str]:
    """Return whether the last pod published the model, and why, or raise the error in its log."""
    from kubernetes import client

    where = pod.metadata.name, pod.metadata.namespace
    log = client.CoreV1Api().read_namespaced_pod_log(*where, container="main")
    verdict = _VERDICT.search(log)
    if pod.status.phase == "Succeeded" and verdict:
        return verdict[1] != "refused", verdict[2]
    lines = [line for line in log.splitlines() if not _LAUNCHER.match(line)] or log.splitlines()
    heading = f"the last task, {task}, {pod.status.phase.lower()}. The last lines of its log:"
    message = "\n".join([heading, *lines[-_LOG_LINES:]])
    end = "".join(_ENDED.findall(log)[:1])
    if end == "signal: killed":
        raise ResourceError(f"{message}\nRaise kubeflow.resources.{task}.memory: memory ran out.")
    errors = {f"exit status {e.exit_code}": e for e in (ConfigError, DataRefused, ResourceError)}
    raise errors.get(end, ImgpipeError)(message)


@contextlib.contextmanager
def _answered(host: str) -> Iterator[None]:
    """Turn what the clients raise into errors for people, and hide warnings."""
    import kfp_server_api
    import kubernetes
    from urllib3.exceptions import HTTPError

    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except (kfp_server_api.ApiException, kubernetes.client.ApiException) as error:
        # Kubeflow also answers 500 for a pipeline that it cannot read.
        wrong = error.status == 400 or "InvalidInput" in str(error.body)
        text = f"the server answered {error.status} {error.reason}: {str(error.body)[:500]}"
        raise (ConfigError if wrong else ResourceError)(text) from error
    except (HTTPError, OSError) as error:
        raise ResourceError(
            f"no answer from {host}, or from Kubernetes ({error}). Check --host and KUBECONFIG, or "
            "run: kubectl port-forward -n kubeflow svc/ml-pipeline 8888."
        ) from error
