"""``imgpipe predict``: classifies images, with a server or with a model in this process."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipe.models.errors import ConfigError, ImgpipeError, ResourceError
from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import escape, new_console

if TYPE_CHECKING:
    from imgpipe.pipeline.published.loaded_model import LoadedModel
    from imgpipe.serving.client import Client, ServingError
    from imgpipe.serving.client.classifier import Answer, Progress

app = typer.Typer()

_SOME_REFUSED = 2  # exit code when some files are not images, the same as for a bad argument
SCHEMA = 1  # of each object that --json writes
_SERVER = "localhost:8500"
_MODEL = "imgpipe"
_TIMEOUT = 30.0
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
    label: Annotated[
        str | None, typer.Option(help="Version label instead of a number, such as stable.")
    ] = None,
    top: Annotated[int, typer.Option(help="Number of labels shown for each image.")] = 5,
    timeout: Annotated[
        float | None, typer.Option(help=f"Seconds for each request. Default: {_TIMEOUT:g}.")
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(metavar="PEM", help="TLS: certificates of the trusted authorities."),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(metavar="PEM", help="TLS: certificate of this client.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="PEM", help="TLS: private key of the certificate.")
    ] = None,
    header: options.HeaderOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; --json - is the same.")
    ] = False,
) -> None:
    """Classify images, using a server or, with --model OUT, a local model."""
    from imgpipe.serving.client import (
        Client,
        DeadlineExceeded,
        NotFound,
        ServingError,
        Tls,
        Unavailable,
    )
    from imgpipe.serving.client.images import files_of

    if as_json:  # other commands take the file of --json, for which "-" is standard output
        images = [path for path in images if path != Path("-")]
        missing = [path for path in images if path.suffix == ".json" and not path.exists()]
        if missing:
            raise ConfigError(
                f"{missing[0]}: there is no such file. {options.json_is_printed(missing[0])}"
            )
    for_server = {
        "--label": label,
        "--timeout": timeout,
        "--ca": ca,
        "--certificate": certificate,
        "--key": key,
        "--header": header,
    }
    address, name = server or _SERVER, model or _MODEL
    classifier: Client | LoadedModel | None = None
    done: dict[int, Answer] = {}
    files: list[Path] = []
    failure: ServingError | None = None
    hint = ""
    try:
        files = files_of(images)
        # The default name is not taken for a folder, such as that of a clone of the repository.
        if server is None and model is not None and _is_folder(model):
            given = [option for option, value in for_server.items() if value is not None]
            classifier = _loaded(Path(model).expanduser(), version, given)
        else:
            classifier = Client(
                address,
                name,
                _TIMEOUT if timeout is None else timeout,
                version=version,
                label=label,
                tls=Tls(ca, certificate, key) if ca or certificate or key else None,
                headers=_headers(header),
            )
        with classifier, _progress(len(files), done) as progress:
            try:
                classifier.classify_each(files, progress=progress, top=top)
            except NotFound:  # so says a server of a version that it is still loading
                hint = _loading(classifier) if isinstance(classifier, Client) else ""
                raise
    except ServingError as error:
        failure = error
    # What was answered before an error is printed too.
    answers = [(files[number], done[number]) for number in sorted(done)]
    if answers:
        (_print_json if as_json else _print_table)(answers)
    if failure is not None:
        unknown = isinstance(failure, NotFound | Unavailable | DeadlineExceeded)
        if unknown and not hint and model is not None and server is None:
            hint = f" (There is no folder {name!r}, so --model was taken for a model's name.)"
        raise ServerError(address, name, failure, hint) from failure
    raise typer.Exit(_refusals(answers))


class ServerError(ImgpipeError):
    """A failed request, with the exit code of the client's error.

    The message names the server if the error came from it.
    """

    def __init__(self, server: str, model: str, error: ServingError, hint: str = "") -> None:
        where = f"{server}, model {model!r}: " if error.from_server else ""
        super().__init__(f"{where}{error}{hint}")
        self.exit_code = error.exit_code


def _is_folder(model: str) -> bool:
    # No served model has a slash in its name, so a path that does not exist is reported as one.
    return os.sep in model or Path(model).expanduser().is_dir()


def _headers(given: Sequence[str] | None) -> dict[str, str]:
    found = {}
    for text in given or ():
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise ConfigError(f"--header takes NAME:VALUE. Received: {name!r}.")
        found[name.strip()] = value.strip()
    return found


def _loaded(folder: Path, version: int | None, given: Sequence[str]) -> LoadedModel:
    """Load the model, unless options are given that have an effect on a server only.

    Raises:
        ConfigError: There is such an option, or no such version.
        ResourceError: There is no model in the folder.
    """
    if given:
        raise ConfigError(
            f"{', '.join(given)}: expected only with a server, because --model {folder} is a "
            "folder and its model is loaded without one. Name the server with --server, or remove "
            f"{given[0]}."
        )
    if not folder.is_dir():
        raise ResourceError(f"no model in {folder}: there is no such folder.")
    from imgpipe.pipeline.published.loaded_model import LoadedModel

    return LoadedModel(folder, version)


def _loading(client: Client) -> str:
    """Return why a model that the server knows is not available yet, otherwise ""."""
    from imgpipe.serving.client import ServingError

    try:
        states = client.status(client.version)
    except ServingError:
        return ""
    for state in states:
        if state.state in ("START", "LOADING"):
            return f". Version {state.version} is still loading; try again in a moment."
        if state.error_code:
            return f". Version {state.version} failed to load: {state.error_message}"
    return ""


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
    refused = [answer for _, answer in answers if isinstance(answer, Exception)]
    if not refused:
        return 0
    console = new_console(stderr=True)
    for error in refused:
        # Without the trace of TensorFlow's graph, which does not help a caller.
        line = str(error).split("\n", 1)[0].strip()
        console.print(f"[red]{escape(line)}[/]")
    images = "image" if len(answers) == 1 else "images"
    console.print(f"{len(refused)} of {len(answers)} {images} could not be classified.")
    return _SOME_REFUSED


def _print_json(answers: Sequence[tuple[Path, Answer]]) -> None:
    plain = sys.stdout.encoding.lower() != "utf-8"  # JSON is UTF-8, of which ASCII is a part
    json.dump([_row(*entry) for entry in answers], sys.stdout, indent=1, ensure_ascii=plain)
    print()


def _row(path: Path, answer: Answer) -> dict[str, Any]:
    image = {"schema": SCHEMA, "image": str(path)}
    if isinstance(answer, Exception):
        return {**image, "error": str(answer)}
    return {
        **image,
        "label": answer.label,
        "probability": answer.probability,
        "top": [{"label": name, "probability": p} for name, p in answer.top],
        "version": answer.version,
    }


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
