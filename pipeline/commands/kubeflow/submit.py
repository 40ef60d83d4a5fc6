"""``imgpipe kubeflow submit``: one run of the pipeline on a Kubeflow Pipelines server.

The options that name the server and the pipeline are shared with ``imgpipe kubeflow schedule``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import escape, new_console
from imgpipe.pipeline.commands.kubeflow import compile as compiling

if TYPE_CHECKING:
    from imgpipe.pipeline.kubeflow.server import Server

app = typer.Typer()


FileArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="FILE|CONFIG|PRESET",
        help="Compiled pipeline (.yaml), or what `imgpipe kubeflow compile` takes.",
    ),
]
HostOption = Annotated[
    str, typer.Option("--host", envvar="KF_PIPELINES_ENDPOINT", help="URL of the API server.")
]
RootOption = Annotated[
    str | None, typer.Option("--root", metavar="URI", help="Folder of all artifacts of the run.")
]
ParameterOption = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="NAME=VALUE", help="Parameter of the run; may be repeated."),
]
NameOption = Annotated[str | None, typer.Option("--name", help="Shown in the list of runs.")]
ExperimentOption = Annotated[str, typer.Option("--experiment", help="Group of runs, by name.")]
NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", help="Namespace on a server with several users.")
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        "--token", envvar="IMGPIPE_KUBEFLOW_TOKEN", help="Bearer token, where the server asks."
    ),
]


@dataclass(frozen=True)
class Target:
    """The pipeline and the server, as the arguments of the command name them.

    Attributes:
        source: File of a compiled pipeline, a configuration or a preset; None for the defaults.
        data: Source of the images, if the pipeline is compiled by this command.
        settings: Overrides of settings, if the pipeline is compiled by this command.
        image: Container image, if the pipeline is compiled by this command.
        host: URL of the API server.
        root: URI of all artifacts, or None for the pipeline's default.
        parameters: Texts such as ``epochs=12``.
        experiment: Name of the group of runs.
        namespace: Namespace on a server with several users.
        token: Bearer token of the requests.
    """

    source: str | None
    data: str | None
    settings: Sequence[str] | None
    image: str
    host: str
    root: str | None
    parameters: Sequence[str] | None
    experiment: str
    namespace: str | None
    token: str | None


@dataclass(frozen=True)
class Prepared:
    """A compiled pipeline and a server that answers.

    Attributes:
        server: The API server.
        pipeline: File of the compiled pipeline.
        name: Name that the pipeline gives itself.
        root: URI of all artifacts. The API server itself ignores the pipeline's default.
        arguments: Values of the pipeline's parameters.
    """

    server: Server
    pipeline: Path
    name: str
    root: str | None
    arguments: dict[str, Any]


_EXAMPLES = """Examples:\n
  imgpipe kubeflow submit photos.toml --host http://localhost:8888 --wait\n
  imgpipe kubeflow submit --data gs://bucket/photos --root gs://bucket/imgpipe
"""


@app.command("submit", epilog=_EXAMPLES)
def command(
    source: FileArgument = None,
    data: options.DataOption = None,
    host: HostOption = "http://localhost:8888",
    root: RootOption = None,
    parameters: ParameterOption = None,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Wait for the end of the run, and exit with its exit code."),
    ] = False,
    name: NameOption = None,
    experiment: ExperimentOption = "imgpipe",
    namespace: NamespaceOption = None,
    token: TokenOption = None,
    image: compiling.ImageOption = "",
    settings: options.SettingsOption = None,
) -> None:
    """Run the pipeline on a Kubeflow Pipelines server."""
    target = Target(
        source, data, settings, image, host, root, parameters, experiment, namespace, token
    )
    raise typer.Exit(run(target, name, wait))


def run(target: Target, name: str | None, wait: bool, every: float = 5.0) -> int:
    """Submit one run; returns the exit code, which is 3 for a model that was not blessed.

    Args:
        target: The pipeline and the server.
        name: Name of the run; None for a name with the time.
        wait: Whether to wait until the run has ended.
        every: Seconds between two requests for its state while waiting.

    Raises:
        ConfigError: An argument is wrong, or the server refuses the pipeline.
        ResourceError: The package kfp is missing, or no server answers.
        ImgpipeError: A task failed while waiting; its exit code is that of a run on one machine.
    """
    with prepare(target) as ready:
        title = name or f"{ready.name} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
        started = ready.server.submit(
            ready.pipeline, title, target.experiment, ready.arguments, ready.root
        )
    console = new_console()
    page = f"{target.host.rstrip('/')}/#/runs/details/{started}"
    console.print(f"submitted the run {escape(started)}: {escape(page)}")
    if not wait:
        return 0
    verdict = ready.server.wait(started, every, lambda state: console.print(escape(state.lower())))
    no_verdict = "The server has no log of the task Report with a verdict."
    console.print(escape(verdict or no_verdict))
    return 3 if verdict.startswith("not") else 0


@contextlib.contextmanager
def prepare(target: Target) -> Iterator[Prepared]:
    """Check the arguments and the server, and compile the pipeline unless its file is given.

    Args:
        target: The pipeline and the server.

    Yields:
        What a run needs. A pipeline that was compiled for it is a temporary file.

    Raises:
        ConfigError: An argument is wrong.
        ResourceError: The package kfp is missing, or no server answers.
    """
    from imgpipe.pipeline.kubeflow import pipeline_file
    from imgpipe.pipeline.kubeflow.address import Address
    from imgpipe.pipeline.kubeflow.server import Server
    from imgpipe.pipeline.output import temporary_files

    compiling.require_kfp()
    if target.root is not None:
        compiling.check_root(target.root)
    source = target.source or ""
    written = Path(source) if source.endswith(pipeline_file.SUFFIXES) else None
    if written:
        if target.data is not None or target.settings or target.image:
            raise ConfigError(
                f"{written} is compiled already, so --data, --set and --image have no effect on "
                "it. Pass --param for a parameter of the run, or name a configuration instead of "
                "the file."
            )
        spec = pipeline_file.read(written)
        arguments = pipeline_file.arguments(spec, target.parameters or ())
    token = (target.token or "").strip()  # the end of a line, from a file with the token
    address = Address(target.host, token or None)
    address.check()  # before the pipeline is compiled, which imports TFX
    with temporary_files.folder() as folder:
        pipeline = written or folder / "pipeline.yaml"
        if not written:
            compiling.compile_(
                target.source,
                target.data,
                pipeline,
                target.image,
                target.root or compiling.DEFAULT_ROOT,
                target.settings or (),
            )
            spec = pipeline_file.read(pipeline)
            arguments = pipeline_file.arguments(spec, target.parameters or ())
        root = target.root or spec.get("defaultPipelineRoot")
        server = Server(address, target.namespace)
        yield Prepared(server, pipeline, pipeline_file.name(spec), root, arguments)
