"""`imgpipe kubeflow`: compiles the pipeline for Kubeflow Pipelines, and submits a run of it."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from imgpipe.models.errors import ConfigError, DataRefused, ImgpipeError, ResourceError
from imgpipe.models.files import json_object
from imgpipe.models.machine.system import install_extra
from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import new_console, say

_DEFAULT_ROOT = "minio://mlpipeline/imgpipe"
#: The errors that end a task, by the exit code in the folder of the run.
_ERRORS: dict[int, type[ImgpipeError]] = {
    error.exit_code: error for error in (ConfigError, DataRefused, ResourceError)
}
_EXAMPLES = """Examples:\n
  imgpipe kubeflow compile photos.toml -o pipeline.yaml\n
  imgpipe kubeflow submit imgpipe-pipeline.yaml --host https://kfp.example.com --wait
"""
_EXAMPLES_OF_COMPILE = """Examples:\n
  imgpipe kubeflow compile photos.toml -o pipeline.yaml
"""
_EXAMPLES_OF_SUBMIT = (
    "Examples:\n\n  imgpipe kubeflow submit pipeline.yaml --param epochs=12 --wait"
)

app = typer.Typer(
    name="kubeflow",
    help="Compile and submit the pipeline for Kubeflow Pipelines.\n\n"
    "docs/kubeflow.md says on what the compiled pipeline was run.",
    epilog=_EXAMPLES,
    rich_help_panel=options.DATA_AND_TRAINING,
    no_args_is_help=True,
)


@app.command("compile", epilog=_EXAMPLES_OF_COMPILE)
def compile_(
    config: options.ConfigArgument = None,
    data: options.DataOption = None,
    output: options.OutputOption = Path("imgpipe-pipeline.yaml"),
    image: Annotated[
        str,
        typer.Option(
            "--image", help="Container image with imgpipe and kfp installed: kubeflow.image."
        ),
    ] = "",
    root: Annotated[
        str,
        typer.Option(
            "--root",
            help="Folder of all artifacts, unless a run is submitted with another one, such as "
            "minio://bucket/imgpipe.",
        ),
    ] = _DEFAULT_ROOT,
    settings: options.SettingsOption = None,
) -> None:
    """Write the PipelineSpec that Kubeflow Pipelines runs."""
    _require_kfp()
    from imgpipe.models.machine.process import quick_imports
    from imgpipe.pipeline.command_line import console as consoles
    from imgpipe.pipeline.configuration.given_settings import assigned, configuration
    from imgpipe.pipeline.kubeflow import places

    _check_root(root)
    if image:
        settings = [*(settings or []), f"kubeflow.image={json.dumps(image)}"]
    placed = places.on_volumes(configuration(config, data, None, assigned(settings or [])))
    with consoles.quiet():
        with quick_imports():
            from imgpipe.pipeline.definition import graph
            from imgpipe.pipeline.kubeflow import compiler, groups

        storage = graph.Storage(root=root, run_directory=compiler.run_directory(placed))
        plan, given = compiler.placeholders(placed)
        pipeline = graph.create_pipeline(placed, plan, storage, given)
        written = compiler.compile_pipeline(pipeline, placed, output)
    image = placed.kubeflow.image
    say(new_console(), f"wrote {written}: {len(groups.GROUPS)} tasks, image {image}")


@app.command("submit", epilog=_EXAMPLES_OF_SUBMIT)
def submit(
    file: Annotated[Path, typer.Argument(help="File that `imgpipe kubeflow compile` wrote.")],
    host: Annotated[
        str, typer.Option(envvar="KF_PIPELINES_ENDPOINT", help="URL of the API server.")
    ] = "http://localhost:8888",
    root: Annotated[str, typer.Option(metavar="URI", help="Folder of all artifacts.")] = "",
    param: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Parameter; repeatable.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end of the run.")] = False,
    name: Annotated[str | None, typer.Option(help="Shown in the list of runs.")] = None,
    experiment: Annotated[str, typer.Option(help="Group of runs, by name.")] = "imgpipe",
    namespace: Annotated[str, typer.Option(help="Namespace of the runs.")] = "kubeflow",
    token: Annotated[
        str | None, typer.Option(envvar="IMGPIPE_KUBEFLOW_TOKEN", help="Bearer token.")
    ] = None,
) -> None:
    """Run a compiled pipeline on a Kubeflow Pipelines server."""
    from imgpipe.pipeline.kubeflow import places

    _require_kfp()
    usual_root, directory, values = _read(file, param or ())
    root = root or usual_root  # the API server itself ignores the root in the file
    _check_root(root)
    described = str(file), values, name, experiment, namespace, root
    with _answered(host):
        from kfp.client import Client

        with contextlib.redirect_stdout(io.StringIO()):  # kfp prints links to the experiment, too
            client = Client(host, namespace=namespace, existing_token=token)
            run = client.create_run_from_pipeline_package(*described).run_id
        link = f"{host.rstrip('/')}/#/runs/details/{run}"
        say(new_console(), f"submitted the run {run}: {link}")
        if not wait:
            return
        state = client.wait_for_run_completion(run, timeout=sys.maxsize).state
    raise typer.Exit(_end(Path(directory.replace(places.RUN, run)), state, link))


def _require_kfp() -> None:
    """Refuse to go on without the package kfp, which the extra `kubeflow` brings."""
    if importlib.util.find_spec("kfp") is None:
        raise ResourceError(
            "imgpipe kubeflow needs the package kfp, which is not installed. Install it with: "
            + install_extra("kubeflow")
        )


def _check_root(root: str) -> None:
    """Refuse a root of artifacts in no object store that the launcher of Kubeflow mounts."""
    from imgpipe.pipeline.kubeflow import places

    if not root.startswith(places.SCHEMES):
        raise ConfigError(
            f"--root {root}: expected the URI of an object store, beginning with "
            f"{', '.join(places.SCHEMES)}, because the containers of a pipeline share no folder. "
            f"For example: --root {_DEFAULT_ROOT}"
        )


def _read(file: Path, given: Sequence[str]) -> tuple[str, str, dict[str, Any]]:
    """Return root and folder of runs in a compiled pipeline, and given values of parameters."""
    import yaml

    from imgpipe.pipeline.configuration import config
    from imgpipe.pipeline.configuration.given_settings import assigned
    from imgpipe.pipeline.definition import plan

    try:
        spec, _ = yaml.safe_load_all(file.read_text(encoding="utf-8"))
        root = spec["defaultPipelineRoot"]
        parameters = spec["root"]["inputDefinitions"]["parameters"]
        [first, *_] = spec["deploymentSpec"]["executors"].values()
        arguments = first["container"]["args"]
        directory = arguments[arguments.index("--run_directory") + 1]
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
    return root, directory, {name: checked[name] for name in values}


def _end(directory: Path, state: str, link: str) -> int:
    """Return 0 if a run has succeeded and 3 if its model was refused, or raise what ended it.

    The folder of the run lies on a volume of the cluster. If this machine has it at another path or
    not at all, the state alone is known, which says nothing about the model.
    """
    from imgpipe.components.run_record import run_folder
    from imgpipe.pipeline.kubeflow import entry_point

    if state != "SUCCEEDED":
        failure = json_object.read_or_empty(directory / entry_point.FAILURE)
        unknown = f"a task has failed, or the run was cancelled. Tasks say why in {directory}."
        told = f"{failure.get('cause', unknown)}\nIts logs: {link}"
        raise _ERRORS.get(failure.get("exit_code", 1), ImgpipeError)(told)
    result = json_object.read_or_empty(directory / run_folder.RESULT)
    if not result:
        say(new_console(), f"the run has ended; report.html in {directory} has the verdict")
        return 0
    say(new_console(), result["verdict"])
    return 3 if result["push"]["status"] == "refused" else 0


@contextlib.contextmanager
def _answered(host: str) -> Iterator[None]:
    """Turn what the clients raise into errors for people, and hide warnings."""
    import kfp_server_api
    from urllib3.exceptions import HTTPError

    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except kfp_server_api.ApiException as error:
        # Kubeflow also answers 500 for a pipeline that it cannot read.
        wrong = error.status == 400 or "InvalidInput" in str(error.body)
        text = f"the server answered {error.status} {error.reason}: {str(error.body)[:500]}"
        raise (ConfigError if wrong else ResourceError)(text) from error
    except (HTTPError, OSError) as error:
        raise ResourceError(
            f"no answer from {host} ({error}). Check --host, or run: kubectl port-forward -n "
            "kubeflow svc/ml-pipeline 8888."
        ) from error
