"""`imgpipe predict`: classifies images, with a server or with a model in this process."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.errors import ImgpipeError
from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import escape, new_console

if TYPE_CHECKING:
    from imgpipe.pipeline.published.loaded_model import LoadedModel
    from imgpipe.serving.client import Client, ServingError
    from imgpipe.serving.client.classifier import Answer, Progress

app = typer.Typer()

_SOME_REFUSED = 2  # exit code when some files are not images, the same as for a bad argument
_SERVER = "localhost:8500"
_MODEL = "imgpipe"
_EXAMPLES = """Examples:\n
  imgpipe predict --model imgpipe-out photo.jpg\n
  imgpipe predict --model imgpipe-out --version 2 photos/ --json\n
  imgpipe predict --server localhost:8500 photo.jpg
"""


@app.command(rich_help_panel=options.SERVING, epilog=_EXAMPLES)
def predict(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGES", help="Images, or folders of them.")
    ],
    server: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help=f"gRPC address. Default: {_SERVER}, unless --model names a folder.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="OUT|NAME",
            help="Output folder of a run, whose newest version is loaded without a server; or the "
            f"name of the served model. Default: the server's model {_MODEL}.",
        ),
    ] = None,
    version: Annotated[
        int | None, typer.Option(help="Version of the model. Default: the newest available one.")
    ] = None,
    top: Annotated[int, typer.Option(help="Number of labels shown for each image.")] = 5,
    timeout: Annotated[float, typer.Option(help="Seconds for each request to a server.")] = 30.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; --json - is the same.")
    ] = False,
) -> None:
    """Classify images, using a server or, with --model OUT, a local model."""
    from imgpipe.serving.client import ServingError
    from imgpipe.serving.client.images import files_of

    if as_json:  # other commands take the file of --json, for which "-" is standard output
        images = [path for path in images if path != Path("-")]
    done: dict[int, Answer] = {}
    files: list[Path] = []
    failure: ServingError | None = None
    try:
        files = files_of(images)
        with (
            _classifier(server, model, version, timeout) as classifier,
            _progress(len(files), done) as progress,
        ):
            classifier.classify_each(files, progress=progress, top=top)
    except ServingError as error:
        failure = error
    # What was answered before an error is printed too.
    answers = [(files[number], done[number]) for number in sorted(done)]
    if answers:
        (_print_json if as_json else _print_table)(answers)
    if failure is not None:
        raise _server_error(failure, server, model) from failure
    raise typer.Exit(_refusals(answers))


def _classifier(
    server: str | None, model: str | None, version: int | None, timeout: float
) -> Client | LoadedModel:
    """Return the client of a server, or the model in a folder."""
    from imgpipe.serving.client import Client

    # The default name is not taken for a folder, such as that of a clone of the repository. No
    # served model has a slash in its name, so a path that does not exist is reported as one.
    if server is None and model and (os.sep in model or Path(model).expanduser().is_dir()):
        from imgpipe.pipeline.published.loaded_model import LoadedModel

        return LoadedModel(Path(model).expanduser(), version)
    return Client(server or _SERVER, model or _MODEL, timeout, version=version)


def _server_error(failure: ServingError, server: str | None, model: str | None) -> ServerError:
    """Return the error of a command whose server or model did not answer."""
    from imgpipe.serving.client import InvalidArgument

    where = ""
    if failure.from_server:
        where = f"{server or _SERVER}, model {model or _MODEL!r}: "
    hint = ""
    if model and not server and not isinstance(failure, InvalidArgument):
        hint = f" (There is no folder {model!r}, so --model was taken for a model's name.)"
    error = ServerError(f"{where}{failure}{hint}")
    error.exit_code = failure.exit_code
    return error


class ServerError(ImgpipeError):
    """A failed request, with the exit code of the client's error."""


@contextlib.contextmanager
def _progress(count: int, done: dict[int, Answer]) -> Iterator[Progress]:
    """Collect the answers in `done`, with a bar on a terminal if there are many images."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    from imgpipe.serving.client.images import CHUNK_IMAGES

    console = Console(stderr=True)
    hidden = count <= CHUNK_IMAGES or not console.is_terminal
    with Bar(console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("classifying", total=count)

        def progress(start: int, answers: Sequence[Answer]) -> None:
            done.update(enumerate(answers, start))
            bar.advance(task, len(answers))

        yield progress


def _refusals(answers: Sequence[tuple[Path, Answer]]) -> int:
    errors = [answer for _, answer in answers if isinstance(answer, Exception)]
    if not errors:
        return 0
    console = new_console(stderr=True)
    for error in errors:
        # Without the trace of TensorFlow's graph, which does not help a caller.
        line = str(error).split("\n", 1)[0].strip()
        console.print(f"[red]{escape(line)}[/]")
    console.print(f"{len(errors)} of {len(answers)} images could not be classified.")
    return _SOME_REFUSED


def _print_json(answers: Sequence[tuple[Path, Answer]]) -> None:
    from imgpipe.pipeline.predicted_images import describe

    plain = sys.stdout.encoding.lower() != "utf-8"  # JSON is UTF-8, of which ASCII is a part
    json.dump(
        [describe(path, answer) for path, answer in answers],
        sys.stdout,
        indent=1,
        ensure_ascii=plain,
    )
    print()


def _print_table(answers: Sequence[tuple[Path, Answer]]) -> None:
    console = new_console()
    width = max(len(str(path)) for path, _ in answers)
    for path, answer in answers:
        if isinstance(answer, Exception):
            continue
        others = "".join(f"{name} {p:.3f}, " for name, p in answer.top[1:])
        console.print(
            f"{escape(f'{path!s:<{width}}')}  [bold]{escape(answer.label)}[/] "
            f"{answer.probability:.3f}  [dim]{escape(others)}version {answer.version}[/]"
        )
