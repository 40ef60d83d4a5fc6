"""``imgpipe kubeflow submit``: one run of a compiled pipeline on Kubeflow Pipelines."""

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
from imgpipe.pipeline.command_line.terminal import escape, new_console
from imgpipe.pipeline.commands.kubeflow import compile as compiling

app = typer.Typer()

_EXAMPLES = """Examples:\n
  imgpipe kubeflow submit pipeline.yaml --host http://localhost:8888 --param epochs=12 --wait
"""
_SECONDS = 5.0  # between two requests for the state of the run
_ABSENT_SECONDS = 300  # for which a server that restarts is asked again
_PENDING_SECONDS = 60  # after which it is said why a pod does not start
_LOG_LINES = 12  # the cause of a failure and what came before it
_NODE = "workflows.argoproj.io/node-name"  # such as hands-x7(0).root(0).Data(0).executor(0)
_TASK = re.compile(r"(\w+)(?:\(\d+\))?\.executor")
_LAUNCHER = re.compile(r"[IWEF]\d{4} |time=|Error: ")  # begins lines that are not the component's
_EXIT_STATUS = re.compile(r"failed to execute component: exit status (\d+)")
_VERDICT = re.compile(r"the model is ((?:not )?blessed\b.*)")  # in the log of Publishing
#: Ends of the reasons for which a pod does not start, such as ImagePullBackOff.
_STUCK = ("Unschedulable", "ErrImagePull", "InvalidImageName", "BackOff", "Error")


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
    with _answered(host):
        from kfp.client import Client

        client = Client(host, namespace=namespace, existing_token=token)
        run = client.create_run_from_pipeline_package(
            str(file), values, name, experiment, namespace, root
        ).run_id
    new_console().print(f"submitted the run {escape(run)}")
    if wait:
        raise typer.Exit(_wait(client, host, namespace, run))


def _read(file: Path, given: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the root in a compiled pipeline, and the given values of its parameters."""
    import yaml

    from imgpipe.pipeline import plan
    from imgpipe.pipeline.configuration import config

    try:
        spec, *volumes = yaml.safe_load_all(file.read_text(encoding="utf-8"))
        root, known = spec["defaultPipelineRoot"], spec["root"]["inputDefinitions"]["parameters"]
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{file} is not a compiled pipeline ({' '.join(str(error).split())[:200]}). Write one "
            "with `imgpipe kubeflow compile`."
        ) from error
    if not volumes:
        raise ConfigError(
            f"{file} is compiled for Vertex AI: it names buckets in place of volumes. Submit it "
            "with google.cloud.aiplatform.PipelineJob, as docs/kubeflow.md shows."
        )
    assigned: dict[str, str] = {}
    for text in given:
        name, _, value = text.partition("=")
        if name not in known:
            raise ConfigError(
                f"--param {text}: expected NAME=VALUE with one of the pipeline's parameters: "
                f"{', '.join(sorted(known))}. Other settings are fixed by the compilation."
            )
        assigned[name] = f"{plan.RUN_SETTINGS[name]}={value}"
    checked = plan.settings(config.build({}, assigned.values(), "--param"))
    return root, {name: checked[name] for name in assigned}


def _wait(client: Any, host: str, namespace: str, run: str) -> int:
    """Wait until a run has ended, and return 0 for a blessed model, 3 for one that is not.

    Raises:
        ImgpipeError: A task failed; the exit code is that of a run on one machine.
        ResourceError: The run was cancelled, or a server is gone.
    """
    api, console = _kubernetes(), new_console()
    started = answered = time.monotonic()
    state = told = ""
    while state not in ("SUCCEEDED", "FAILED", "CANCELED"):
        time.sleep(_SECONDS)
        late = time.monotonic() - started > _PENDING_SECONDS
        try:
            with _answered(host):
                found = client.get_run(run)
                cause = _waiting(_pods(api, namespace, run)) if api and late else ""
        except ResourceError:
            if time.monotonic() - answered > _ABSENT_SECONDS:
                raise
            continue
        answered, state = time.monotonic(), str(found.state)
        said = f"a task cannot start: {cause}" if cause else state.lower()
        if said != told:
            console.print(escape(said))
            told = said
    # A run that is cancelled ends as failed.
    if {"CANCELING", "CANCELED"} & {one.state for one in found.state_history or ()}:
        raise ResourceError(f"the run {run} was cancelled. Submit it again.")
    if api is None and state == "FAILED":
        raise ImgpipeError(f"the run {run} failed. Its cause is in failure.json in its folder.")
    if api is None:
        return 0
    with _answered(host):
        verdict = _verdict(api, _pods(api, namespace, run))
    console.print(escape(verdict))
    return 3 if verdict.startswith("not") else 0


def _kubernetes() -> Any:
    """Return the API of Kubernetes that the user's kubeconfig names, None without a kubeconfig."""
    from kubernetes import client, config

    try:
        config.load_kube_config()
    except config.ConfigException as error:
        new_console().print(
            escape(f"without a kubeconfig ({error}), only the state of the run is known here, and ")
            + "neither the verdict nor the cause of a failure"
        )
        return None
    return client.CoreV1Api()


def _pods(api: Any, namespace: str, run: str) -> list[tuple[str, Any]]:
    """Return the pods that run tasks, without those of drivers, with the names of the tasks.

    They are read from Kubernetes, because the API server of Kubeflow Pipelines names none.
    """
    label = f"pipeline/runid={run}"
    pods = api.list_namespaced_pod(namespace, label_selector=label).items
    found = [(_TASK.search(pod.metadata.annotations[_NODE]), pod) for pod in pods]
    return [(task[1], pod) for task, pod in found if task]


def _waiting(pods: Sequence[tuple[str, Any]]) -> str:
    """Return what Kubernetes says about a pod that does not start, "" if there is none."""
    for task, pod in pods:
        states = [one.state.waiting for one in pod.status.container_statuses or ()]
        for one in (*states, *(pod.status.conditions or ())):
            if one and str(one.reason).endswith(_STUCK):
                return f"{task}: {one.reason} {one.message or ''}".strip()
    return ""


def _verdict(api: Any, pods: Sequence[tuple[str, Any]]) -> str:
    """Return the verdict in the log of the last task, such as "not blessed: …".

    Raises:
        ImgpipeError: The task failed; the error has its exit code.
    """
    if not pods:
        raise ResourceError(
            "the run has ended, and its pods are gone. The verdict is in report.html, or the cause "
            "in failure.json, in the run's folder."
        )
    task, pod = max(pods, key=lambda one: one[1].metadata.creation_timestamp)
    where = pod.metadata.name, pod.metadata.namespace
    log = api.read_namespaced_pod_log(*where, container="main").rstrip()
    if pod.status.phase == "Succeeded" and (verdict := _VERDICT.search(log)):
        return verdict[1]
    lines = [line for line in log.splitlines() if not _LAUNCHER.match(line)][-_LOG_LINES:]
    told = "\n".join([f"the task {task} failed. The last lines of its log:", *lines])
    if "signal: killed" in log:
        raise ResourceError(f"{told}\nRaise kubeflow.resources.{task}.memory: memory ran out.")
    # The launcher itself always ends with 1, and names the code of the task.
    ended = _EXIT_STATUS.search(log)
    by_code = {str(one.exit_code): one for one in (ConfigError, DataRefused, ResourceError)}
    raise by_code.get(ended[1] if ended else "", ImgpipeError)(told)


@contextlib.contextmanager
def _answered(host: str) -> Iterator[None]:
    """Turn what the clients raise into errors for people, and hide what they print."""
    import kfp_server_api
    import kubernetes
    from urllib3.exceptions import HTTPError

    try:
        with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
            yield
    except (kfp_server_api.ApiException, kubernetes.client.ApiException) as error:
        # Kubeflow also answers 500 for a pipeline that it cannot read.
        wrong = error.status == 400 or "InvalidInput" in str(error.body)
        text = f"the server answered {error.status} {error.reason}: {str(error.body)[:500]}"
        raise (ConfigError if wrong else ResourceError)(text) from error
    except (HTTPError, OSError) as error:
        raise ResourceError(
            f"no answer from {host}, or from Kubernetes for --wait ({error}). Check --host and "
            "KUBECONFIG, or make the API server reachable: kubectl port-forward -n kubeflow "
            "svc/ml-pipeline 8888. A run that was submitted keeps running."
        ) from error
