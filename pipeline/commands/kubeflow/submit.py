"""``imgpipe kubeflow submit``: one run of a compiled pipeline on Kubeflow Pipelines."""

from __future__ import annotations

import contextlib
import io
import json
import time
import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.command_line.terminal import escape, new_console
from imgpipe.pipeline.commands.kubeflow import compile as compiling

if TYPE_CHECKING:
    from kfp.client import Client

app = typer.Typer()

_EXAMPLES = """Examples:\n
  imgpipe kubeflow submit pipeline.yaml --host http://localhost:8888 --param epochs=12 --wait
"""
_SECONDS = 5.0  # between two requests for the state of the run
_ABSENT_SECONDS = 300  # for which a server that restarts is asked again
_PENDING_SECONDS = 60  # after which it is said why a pod does not start
_ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")


@app.command("submit", epilog=_EXAMPLES)
def command(
    file: Annotated[
        Path, typer.Argument(help="Compiled pipeline, as `imgpipe kubeflow compile` writes it.")
    ],
    host: Annotated[
        str, typer.Option("--host", envvar="KF_PIPELINES_ENDPOINT", help="URL of the API server.")
    ] = "http://localhost:8888",
    root: Annotated[
        str | None, typer.Option("--root", metavar="URI", help="Folder of all artifacts.")
    ] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option("--param", metavar="NAME=VALUE", help="Parameter of the run; repeatable."),
    ] = None,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Wait for the end of the run, and exit with its exit code."),
    ] = False,
    name: Annotated[str | None, typer.Option("--name", help="Shown in the list of runs.")] = None,
    experiment: Annotated[
        str, typer.Option("--experiment", help="Group of runs, by name.")
    ] = "imgpipe",
    namespace: Annotated[
        str, typer.Option("--namespace", help="Namespace of the runs.")
    ] = "kubeflow",
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="IMGPIPE_KUBEFLOW_TOKEN", help="Bearer token."),
    ] = None,
) -> None:
    """Run a compiled pipeline on a Kubeflow Pipelines server."""
    compiling.require_kfp()
    if root is not None:
        compiling.check_root(root)
    spec = _read(file)
    given = _arguments(spec, parameters or ())
    console = new_console()
    with _answered(host):
        from kfp.client import Client

        token = (token or "").strip()  # without the end of a line, from a file with the token
        client = Client(host=host, existing_token=token or None, namespace=namespace)
        title = name or f"{spec['pipelineInfo'].get('name', 'imgpipe')} {datetime.now(UTC):%F %T}"
        made = client.create_run_from_pipeline_package(
            str(file),
            given,
            run_name=title,
            experiment_name=experiment,
            namespace=namespace,
            # The API server itself ignores the pipeline's default.
            pipeline_root=root or spec.get("defaultPipelineRoot"),
        )
    console.print(f"submitted the run {escape(made.run_id)} ({escape(title)})")
    if wait:
        raise typer.Exit(_wait(client, host, namespace, made.run_id))


def _wait(client: Client, host: str, namespace: str, run: str) -> int:
    """Wait until a run has ended.

    Returns:
        The exit code: 0 for a blessed model, 3 for one that was not blessed.

    Raises:
        ImgpipeError: A task failed; its exit code is that of a run on one machine.
        ResourceError: The run was cancelled, or the server is gone.
    """
    from imgpipe.pipeline.kubeflow.pods import Pods

    console, pods = new_console(), Pods(run, namespace)
    started = answered = time.monotonic()
    state = told = ""
    while state not in _ENDED:
        if state:
            time.sleep(_SECONDS)
        try:
            with _answered(host):
                found = client.get_run(run)
            answered = time.monotonic()
        except ResourceError:
            if not state or time.monotonic() - answered > _ABSENT_SECONDS:
                raise
            continue
        if found.state != state:
            state = str(found.state)
            console.print(escape(state.lower()))
        if state not in _ENDED and time.monotonic() - started > _PENDING_SECONDS:
            waiting = pods.waiting()
            if waiting not in ("", told):
                console.print(escape(f"a task cannot start: {waiting}"))
                told = waiting
    # A run that is cancelled ends as failed.
    history = {one.state for one in found.state_history or ()}
    if state not in ("SUCCEEDED", "FAILED") or "CANCELING" in history:
        raise ResourceError(f"the run {run} was cancelled. Submit it again.")
    if state == "FAILED":
        raise pods.failure()
    verdict = pods.verdict()
    console.print(
        escape(
            verdict
            or f"the run succeeded; its verdict is in the log of Publishing, "
            f"which cannot be read here ({pods.fault})"
        )
    )
    return 3 if verdict.startswith("not") else 0


def _read(file: Path) -> dict[str, Any]:
    """Read the PipelineSpec, which is the first document of the file."""
    import yaml

    try:
        documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
        spec = documents[0]
        spec["pipelineInfo"], spec["root"]["dag"]
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{file} is not a compiled pipeline ({' '.join(str(error).split())[:200]}). Write one "
            "with `imgpipe kubeflow compile`."
        ) from error
    if len(documents) == 1:  # the second one has the volumes
        raise ConfigError(
            f"{file} is compiled for Vertex AI: its containers share buckets and mount no volumes. "
            "Submit it with google.cloud.aiplatform.PipelineJob, as docs/kubeflow.md shows, or "
            "compile it with volumes {claim, path} in kubeflow.volumes."
        )
    return dict(spec)


def _arguments(spec: dict[str, Any], given: Sequence[str]) -> dict[str, Any]:
    """Return the values of the pipeline's parameters, of the types that it declares."""
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    values: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or key not in declared:
            raise ConfigError(
                f"--param {text}: expected NAME=VALUE with one of the pipeline's parameters: "
                f"{', '.join(sorted(declared))}. Other settings are fixed by the compilation."
            )
        values[key] = value
        if declared[key].get("parameterType") != "STRING":
            try:
                values[key] = json.loads(value)
            except ValueError:
                raise ConfigError(f"--param {text}: expected a number.") from None
    missing = [n for n, one in declared.items() if n not in values and not one.get("isOptional")]
    if missing:
        raise ConfigError(f"the parameter {missing[0]!r} has no default: --param {missing[0]}=…")
    return values


@contextlib.contextmanager
def _answered(host: str) -> Iterator[None]:
    """Turn what the client raises into errors for people, and hide what it prints."""
    import kfp_server_api
    from urllib3 import exceptions

    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except kfp_server_api.ApiException as error:
        text = f"{host} answered {error.status} {error.reason}: {str(error.body)[:500]}"
        # The server also answers 500 for a pipeline that it cannot read.
        at_fault = error.status < 500 or "InvalidInput" in str(error.body)
        if at_fault and error.status not in (401, 403):
            raise ConfigError(text) from error
        raise ResourceError(f"{text}. Check the server's own log and --token.") from error
    except (exceptions.HTTPError, OSError) as error:
        raise ResourceError(
            f"no API server of Kubeflow Pipelines answers at {host} ({error}). Check --host, or "
            "make the server of a cluster reachable: kubectl port-forward -n kubeflow "
            "svc/ml-pipeline 8888, then --host http://localhost:8888. A run that was submitted "
            "keeps running."
        ) from error
