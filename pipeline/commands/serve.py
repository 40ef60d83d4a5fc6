"""`imgpipe serve`: runs the embedded server in the foreground."""

from __future__ import annotations

import contextlib
import inspect
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import new_console, say
from imgpipe.serving.server.corrections import MOST_BYTES, Corrections
from imgpipe.serving.server.ports import is_loopback
from imgpipe.serving.server.settings import ServerSettings, flags

if TYPE_CHECKING:
    from imgpipe.pipeline.output.lookup import Model

app = typer.Typer()

_DEFAULT_OUT = Path("imgpipe-out")
_EXAMPLES = """Examples:\n
  imgpipe serve imgpipe-out\n
  imgpipe serve imgpipe-out/model/3 --port 9000\n
  imgpipe serve imgpipe-out/runs/20260131-140559\n
  imgpipe serve imgpipe-out --port 0 --json -\n
  imgpipe serve imgpipe-out --request-log logs/requests\n
  imgpipe serve --model_name=imgpipe --model_base_path=/models/imgpipe\n
"""


_OUT = typer.Argument(
    metavar="OUT",
    help="Output folder of the runs; one version, OUT/model/N, of which no other is served; or one "
    f"run, OUT/runs/TIME, whose model need not be blessed. Default: {_DEFAULT_OUT}.",
)
_EXAMPLE_IMAGES = typer.Option(
    "--examples",
    help="Show three images of the validation set on the page, for everybody who can reach it.",
)
_CORRECTIONS = typer.Option(
    "--corrections",
    help="Let people at the page on this machine put answers right: their images, of "
    f"{MOST_BYTES // 10**6} MB in all, are kept in OUT/corrections.",
)
_JSON = typer.Option(
    "--json",
    metavar="FILE",
    help="Write the addresses and every change of a version as JSON lines to this file (- "
    "for standard output).",
    callback=options.writable_file,
)


def _with_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the flags of the server, which it receives as keyword arguments."""
    signature = inspect.signature(command, eval_str=True)
    own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    command.__signature__ = signature.replace(parameters=[*own, *flags()])  # type: ignore[attr-defined]
    return command


@app.command(rich_help_panel=options.SERVING, epilog=_EXAMPLES)
@_with_flags
def serve(
    out: Annotated[Path | None, _OUT] = None,
    examples: Annotated[bool, _EXAMPLE_IMAGES] = False,
    corrections: Annotated[bool, _CORRECTIONS] = False,
    json_file: Annotated[str | None, _JSON] = None,
    **server_flags: Any,
) -> None:
    """Serve a model on this machine: TensorFlow Serving's API and a page to try it.

    For flags of tensorflow_model_server that are not listed here, let TensorFlow Serving serve the
    same folder.
    """
    settings = ServerSettings(**server_flags)
    of_the_page = {"--examples": examples, "--corrections": corrections}
    for option, is_given in of_the_page.items():
        if is_given and not settings.shows_page:
            raise ConfigError(f"{option} needs the web page. Leave out --no-web and --rest-port 0.")
    if corrections and not is_loopback(settings.host.strip("[]")):
        raise ConfigError(
            "--corrections takes images of people at this machine only. Leave it out, or "
            f"--host {settings.host}."
        )
    _quiet_tensorflow()
    if settings.model_base_path:
        if out is not None or examples or corrections:
            raise ConfigError(
                "--model_base_path names the model. Leave out OUT, --examples and --corrections."
            )
    else:
        from imgpipe.pipeline.output import lookup

        model = lookup.model(out or _DEFAULT_OUT)
        settings = _with_model(settings, model, examples)
        if corrections:
            settings = replace(settings, corrections=_corrections(model))
    from imgpipe.serving.server import model_server

    with _opened(json_file) as write:
        model_server.run(settings, write)


def _quiet_tensorflow() -> None:
    """Let TensorFlow print no line for each file that is not an image.

    It does at level 1, which `cli` has set.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"


def _with_model(settings: ServerSettings, model: Model, examples: bool) -> ServerSettings:
    """Return the settings with what follows from the model; `examples` shows images of it."""
    from imgpipe.pipeline.command_line import console as consoles
    from imgpipe.pipeline.published.copies import example_images

    folder = model.versions if model.is_newest else model.folder
    _say_unpublished(model)
    images: tuple[bytes, ...] = ()
    if examples:
        with consoles.quiet():  # without the messages that TensorFlow prints
            images = example_images(model.folder)
    return replace(
        settings,
        model_base_path=str(folder),
        notice=model.notice,
        examples=images,
    )


def _corrections(model: Model) -> Corrections:
    """Return where people at the page put images right, and print how to learn from them."""
    from imgpipe.components.report.commands import run_command, shown
    from imgpipe.models.finding import make_finding
    from imgpipe.pipeline.command_line.printing import print_blocks

    run = model.run
    if run is None:
        raise ConfigError(
            "--corrections keeps images in the output folder of a run. Name it as OUT, such as "
            f"{_DEFAULT_OUT}. Received: {model.folder}, which no run of this machine has made."
        )
    folder = run.out / "corrections"
    console = new_console(stderr=True)
    say(console, f"corrections of the page are kept in {folder}")
    source = Path(run.setting("data", "source"))
    for home in (source, source / "train"):
        if all((home / name).is_dir() for name in model.vocabulary):
            copied = shlex.join(["cp", "-R", f"{folder}/.", str(home)])
            command = f"{copied} && {run_command(run.result, run.moved)}"
            print_blocks(console, [shown([make_finding("learn", "learn from them", [command])])])
    return Corrections(folder)


def _say_unpublished(model: Model) -> None:
    """Print why a model is not published, and the command that publishes it."""
    from imgpipe.components.report.commands import shown
    from imgpipe.pipeline.command_line.printing import print_blocks

    console = new_console(stderr=True)
    if model.notice:
        say(console, f"note: {model.notice}")
    print_blocks(console, [shown(model.publish_commands)])


@contextlib.contextmanager
def _opened(json_file: str | None) -> Iterator[Callable[[str], object] | None]:
    """Yield the function that writes to the file of `--json`; None without it."""
    if json_file is None or json_file == output_files.STANDARD_OUTPUT:
        yield None if json_file is None else sys.stdout.write
        return
    try:
        # Without a buffer: other programs read the file while the server runs, and what a full disk
        # refused is not written once more when the file is closed.
        file = Path(json_file).open("wb", buffering=0)  # noqa: SIM115
    except OSError as error:
        raise ResourceError(f"cannot write --json {json_file}: {error.strerror}.") from None
    with file:
        yield lambda line: file.write(line.encode())
