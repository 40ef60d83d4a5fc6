"""``imgpipe predict``: has a server classify images. It needs no TensorFlow."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipe.models.errors import ConfigError, ImgpipeError
from imgpipe.pipeline import options
from imgpipe.pipeline.terminal import escape, new_console

if TYPE_CHECKING:
    from rich.progress import Progress

    from imgpipe.serving.client import Client, ServingError
    from imgpipe.serving.client.operations import Answer, Classifying

app = typer.Typer()

_SOME_REFUSED = 2
"""Exit code when some files are not images: the same as for a bad argument."""


@app.command(rich_help_panel=options.SERVING)
def predict(
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of them.")],
    server: Annotated[
        str,
        typer.Option(
            "--server",
            metavar="HOST:PORT",
            help="gRPC address, or http://HOST:PORT of the REST interface.",
        ),
    ] = "localhost:8500",
    model: options.ModelOption = "imgpipe",
    version: Annotated[
        int | None,
        typer.Option("--version", help="Version of the model. Default: the newest available one."),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option("--label", help="Version label instead of a number, such as stable."),
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(
            "--crop",
            metavar="LEFT,TOP,RIGHT,BOTTOM",
            help="Region of each image, in pixels or as fractions from 0 to 1.",
        ),
    ] = None,
    ten_crop: Annotated[
        bool,
        typer.Option(
            "--ten-crop",
            help="Average the answers for ten crops of each image, which takes ten times as long.",
        ),
    ] = False,
    top: Annotated[int, typer.Option("--top", help="Number of labels shown for each image.")] = 5,
    at_once: Annotated[int, typer.Option("--at-once", help="Number of concurrent requests.")] = 4,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds for each request.")] = 30.0,
    ca: Annotated[
        Path | None,
        typer.Option("--ca", metavar="PEM", help="TLS: certificates of the trusted authorities."),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option("--certificate", metavar="PEM", help="TLS: certificate of this client."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="PEM", help="TLS: private key of the certificate."),
    ] = None,
    header: options.HeaderOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Have a server classify images."""
    endpoint = Endpoint(
        server, model, version, label, timeout, ca, certificate, key, headers(header)
    )
    question: Classifying = {"crop": crop, "ten_crop": ten_crop, "top": top, "at_once": at_once}
    raise typer.Exit(run(images, endpoint, question, as_json))


def headers(given: Sequence[str] | None) -> dict[str, str]:
    """Parse headers.

    Args:
      given: Headers as ``NAME:VALUE``, or None.

    Returns:
      Values by name.

    Raises:
      ConfigError: A header has no name or no colon.
    """
    found = {}
    for text in given or ():
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise ConfigError(f"--header takes NAME:VALUE. Received: {name!r}.")
        found[name.strip()] = value.strip()
    return found


class ServerError(ImgpipeError):
    """A failed request, with the exit code of the client's error.

    The message names the server if the error came from it.
    """

    def __init__(self, server: str, model: str, error: ServingError, hint: str = "") -> None:
        where = f"{server}, model {model!r}: " if error.from_server else ""
        super().__init__(f"{where}{error}{hint}")
        self.exit_code = error.exit_code


@dataclass(frozen=True)
class Endpoint:
    """A served model, and how to connect to its server."""

    server: str
    model: str
    version: int | None = None
    label: str | None = None
    timeout: float = 30.0
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def client(self) -> Client:
        """Return a client, which connects with its first request."""
        from imgpipe.serving.client import Client, Tls

        files = (self.ca, self.certificate, self.key)
        return Client(
            self.server,
            self.model,
            self.timeout,
            version=self.version,
            label=self.label,
            tls=Tls(*files) if any(files) else None,
            headers=self.headers,
        )


def run(paths: Sequence[Path], endpoint: Endpoint, question: Classifying, as_json: bool) -> int:
    """Classify images and print the answers.

    Args:
      paths: Files, or folders whose files are classified.
      endpoint: The served model.
      question: Crop, number of labels and number of concurrent requests.
      as_json: Whether to print JSON instead of a table.

    Returns:
      0, or 2 when some files are not images.

    Raises:
      ServerError: The server cannot be reached or refuses the requests.
    """
    from imgpipe.serving.client import NotFound, ServingError
    from imgpipe.serving.client.images import files_of

    done: dict[int, Answer] = {}
    failure: ServingError | None = None
    files: list[Path] = []
    try:
        files = files_of(paths)
        with endpoint.client() as client, _bar(len(files)) as bar:
            task = bar.add_task("", total=len(files))

            def progress(start: int, answers: Sequence[Answer]) -> None:
                done.update(enumerate(answers, start))
                bar.advance(task, len(answers))

            client.classify_each(files, progress=progress, **question)
    except ServingError as error:
        failure = error
    answers = [(files[number], done[number]) for number in sorted(done)]
    if answers:
        (_print_json if as_json else _print_table)(answers)
    if failure is not None:
        hint = _loading(endpoint) if isinstance(failure, NotFound) else ""
        raise ServerError(endpoint.server, endpoint.model, failure, hint) from failure
    return _refusals(answers)


def _loading(endpoint: Endpoint) -> str:
    """Return why a model that the server knows is not available yet, otherwise ""."""
    from imgpipe.serving.client import ServingError

    try:
        with endpoint.client() as client:
            states = client.status(endpoint.version)
    except ServingError:
        return ""
    for state in states:
        if state.state in ("START", "LOADING"):
            return f". Version {state.version} is still loading; try again in a moment."
        if state.error_code:
            return f". Version {state.version} failed to load: {state.error_message}"
    return ""


def _bar(count: int) -> Progress:
    """Return a progress bar on standard error, shown on a terminal if there are many images."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from imgpipe.serving.client.operations import CHUNK_IMAGES

    console = Console(stderr=True)
    return Progress(
        TextColumn("classifying"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=count <= CHUNK_IMAGES or not console.is_terminal,
    )


def _refusals(answers: Sequence[tuple[Path, Answer]]) -> int:
    from imgpipe.serving.client import ServingError

    refused = [answer for _, answer in answers if isinstance(answer, ServingError)]
    if not refused:
        return 0
    console = new_console(stderr=True)
    for error in refused:
        console.print(f"[red]{escape(_one_line(error))}[/]")
    console.print(f"{len(refused)} of {len(answers)} images could not be classified.")
    return _SOME_REFUSED


def _one_line(error: ServingError) -> str:
    """Return the message without the trace of TensorFlow's graph, which does not help a caller."""
    return str(error).split("\n", 1)[0].strip()


def _print_json(answers: Sequence[tuple[Path, Answer]]) -> None:
    json.dump([_row(*entry) for entry in answers], sys.stdout, indent=1, ensure_ascii=False)
    print()


def _row(path: Path, answer: Answer) -> dict[str, Any]:
    from imgpipe.serving.client import ServingError

    if isinstance(answer, ServingError):
        return {"image": str(path), "error": str(answer)}
    return {
        "image": str(path),
        "label": answer.label,
        "probability": answer.probability,
        "top": [{"label": name, "probability": p} for name, p in answer.top],
        "version": answer.version,
    }


def _print_table(answers: Sequence[tuple[Path, Answer]]) -> None:
    from imgpipe.serving.client import ServingError

    console = new_console()
    width = max(len(str(path)) for path, _ in answers)
    for path, answer in answers:
        if isinstance(answer, ServingError):
            continue
        others = "".join(f"{name} {p:.3f}, " for name, p in answer.top[1:])
        console.print(
            f"{escape(f'{path!s:<{width}}')}  [bold]{escape(answer.label)}[/] "
            f"{answer.probability:.3f}  [dim]{escape(others)}version {answer.version}[/]"
        )
