"""`imgpipe serve`: runs the embedded server in the foreground."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.names.model_names import SERVED_NAME
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import escape, new_console

if TYPE_CHECKING:
    from imgpipe.pipeline.published.model import Model
    from imgpipe.pipeline.published.named_model import NamedModel

app = typer.Typer()

_LAST_PORT = 65535
_USUAL_SHARE = 0.1
_UNPUBLISHED = 0  # number of a model that is not published; versions begin with 1
_EXAMPLES = """Examples:\n
  imgpipe serve imgpipe-out\n
  imgpipe serve imgpipe-out/model/3 --port 9000\n
  imgpipe serve imgpipe-out --versions 2\n
  imgpipe serve imgpipe-out --run newest\n
  imgpipe serve imgpipe-out --port 0 --json -\n
  imgpipe serve imgpipe-out --request-log logs/requests\n
"""


_MODEL_DIR = typer.Argument(
    metavar="OUT",
    help="Output folder of a run, or folder of numbered versions; or one version, such as "
    "OUT/model/3, of which no other is served; or the folder of a run, whose model need not be "
    "blessed.",
)
_PORT = typer.Option("--port", min=0, max=_LAST_PORT, help="gRPC port; 0 for any free one.")
_REST_PORT = typer.Option(
    "--rest-port",
    min=-1,
    max=_LAST_PORT,
    help="Port of the REST interface and the web page; 0 for none, -1 for any free one. Default: "
    "the port after the gRPC port.",
)
_WEB = typer.Option("--web/--no-web", help="Show a page at / of the REST port.")
_EXAMPLE_IMAGES = typer.Option(
    "--examples",
    help="Show three images of the validation set on the page, for everybody who can reach it.",
)
_VERSIONS = typer.Option(
    "--versions",
    min=1,
    metavar="N",
    help="Serve the newest N versions, which the page can show side by side.",
)
_HOST = typer.Option("--host", help="Address to bind.")
_ALLOWED_HOSTS = typer.Option(
    "--allowed-host",
    metavar="NAME",
    help="Name by which requests of this machine may call it in addition to localhost, as a proxy "
    "passes it on; .example.com for all names that end with it. May be repeated.",
)
_ACCESS_LOG = typer.Option(
    "--access-log", help="Log a line for each request: status, rows, time; nothing of its content."
)
_MODEL = typer.Option("--model", help="Name of the served model.")
_LOG = typer.Option(
    "--request-log",
    metavar="PREFIX",
    help="Prefix of the files to which requests are logged, for imgpipe drift.",
)
_LOG_SHARE = typer.Option(
    "--log-share",
    min=0,
    max=1,
    help=f"Share of the requests to log. Default: {_USUAL_SHARE}.",
)
_LOG_IMAGES = typer.Option("--log-images", help="Also log the images of the requests.")
_JSON = typer.Option(
    "--json",
    metavar="FILE",
    help="Write the addresses and every change of a version as JSON lines to this file (- "
    "for standard output).",
    callback=options.writable_file,
)


@app.command(rich_help_panel=options.SERVING, epilog=_EXAMPLES)
def serve(
    model_dir: Annotated[str, _MODEL_DIR],
    port: Annotated[int, _PORT] = 8500,
    rest_port: Annotated[int | None, _REST_PORT] = None,
    web: Annotated[bool, _WEB] = True,
    examples: Annotated[bool, _EXAMPLE_IMAGES] = False,
    versions: Annotated[int, _VERSIONS] = 1,
    run: options.RunOption = None,
    host: Annotated[str, _HOST] = "127.0.0.1",
    allowed_hosts: Annotated[list[str] | None, _ALLOWED_HOSTS] = None,
    model: Annotated[str, _MODEL] = SERVED_NAME,
    log: Annotated[str | None, _LOG] = None,
    log_share: Annotated[float | None, _LOG_SHARE] = None,
    log_images: Annotated[bool, _LOG_IMAGES] = False,
    access_log: Annotated[bool, _ACCESS_LOG] = False,
    json_file: Annotated[str | None, _JSON] = None,
) -> None:
    """Serve a model on this machine: TensorFlow Serving's API and a page to try it."""
    if rest_port is None:
        # 8500 and 8501 are the usual ports of TensorFlow Serving. If the system chooses the port,
        # another program may use the next number.
        rest_port = port + 1 if 0 < port < _LAST_PORT else -1
    if examples and not (web and rest_port):
        raise ConfigError("--examples needs the web page. Leave out --no-web and --rest-port 0.")
    if log is None and (log_images or log_share is not None):
        option = "--log-images" if log_images else "--log-share"
        raise ConfigError(f"{option} needs --request-log PREFIX, the prefix of the log files.")
    named = _named(Path(model_dir), run, versions)
    alone = named.model() if named.versions is None else None
    _quiet_tensorflow()
    from imgpipe.models.features import feature_distribution
    from imgpipe.pipeline.published.example_images import example_images
    from imgpipe.serving.server import model_server
    from imgpipe.serving.server.model_configs import VersionPolicy
    from imgpipe.serving.server.settings import Settings

    policy = VersionPolicy(num_versions=versions)
    if named.number:
        policy = VersionPolicy("specific", versions=(named.number,))
    settings = Settings(
        port=port,
        host=host,
        allowed_hosts=",".join(allowed_hosts or ()),
        access_log=access_log,
        rest_api_port=rest_port,
        web_page=web,
        model_name=model,
        policy=policy,
        notice=alone.notice if alone else "",
        examples=example_images(named.model().folder) if examples else (),
        read_distribution=feature_distribution.load if web else None,
        request_log_prefix="" if log is None else str(Path(log).expanduser().absolute()),
        request_log_sampling_rate=_USUAL_SHARE if log_share is None else log_share,
        request_log_images=log_images,
    )
    if alone:
        _say_unpublished(alone)
    with _opened(json_file) as write, _base_path(named, alone) as base_path:
        settings = dataclasses.replace(settings, model_base_path=str(base_path))
        raise typer.Exit(model_server.run(settings, write, "imgpipe serve"))


def _quiet_tensorflow() -> None:
    """Let TensorFlow print no line for each file that is not an image.

    It does at level 1, which `cli` has set.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"


def _named(path: Path, run: str | None, versions: int) -> NamedModel:
    """Find what is served: a folder of versions, one of them, or the model of a run.

    Raises:
        ConfigError: There is one model, but several versions are asked for.
        ResourceError: There is no model.
    """
    from imgpipe.pipeline.published import named_model

    named = named_model.find(path, run)
    if named.is_one and versions > 1:
        raise ConfigError(
            f"--versions needs a folder of versions. Received one model: {path}. Name the "
            "output folder instead, or leave out --versions."
        )
    return named


def _say_unpublished(model: Model) -> None:
    """Print why a model is not published, and the command that publishes it."""
    from imgpipe.components.report.commands import lines

    console = new_console(stderr=True)
    if model.notice:
        console.print(f"note: {escape(model.notice)}")
    for line in lines(model.publish_commands):
        console.print(f"  {escape(line)}")


@contextlib.contextmanager
def _base_path(named: NamedModel, alone: Model | None) -> Iterator[Path]:
    """Yield the folder of versions that the server reads.

    For a model that is not among published versions, it is a temporary folder with a link to it,
    so that nothing appears among these.
    """
    if alone is None:
        yield named.numbered()
    else:
        with tempfile.TemporaryDirectory(prefix="imgpipe-serve-") as folder:
            (Path(folder) / str(_UNPUBLISHED)).symlink_to(alone.folder.absolute())
            yield Path(folder)


@contextlib.contextmanager
def _opened(json_file: str | None) -> Iterator[Callable[[str], object] | None]:
    """Yield the function that writes to the file of `--json`; None without it."""
    if json_file is None or json_file == output_files.STANDARD_OUTPUT:
        yield None if json_file is None else sys.stdout.write
        return
    try:
        # With a buffer of one line, since other programs read the file while the server runs.
        file = Path(json_file).open("w", buffering=1, encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise ResourceError(f"cannot write --json {json_file}: {error.strerror}.") from None
    with file:
        yield file.write
