"""``imgpipe predict``: classifies images, with a server or with a model in this process.

Only the latter needs TensorFlow. The client's distribution holds this module without the latter.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipe.models.errors import ConfigError, ImgpipeError, ResourceError
from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import escape, new_console

if TYPE_CHECKING:
    from rich.progress import Progress

    from imgpipe.serving.client import Client, ServingError
    from imgpipe.serving.client.operations import Answer, Classifying

app = typer.Typer()

_SOME_REFUSED = 2  # exit code when some files are not images, the same as for a bad argument
SCHEMA = 1  # of each object that --json writes
_SERVER = "localhost:8500"
_REST_PORT = ":8501"  # default port of the REST interface
_MODEL = "imgpipe"
_AT_ONCE, _TIMEOUT = 4, 30.0
_LOCAL = "imgpipe.pipeline.published.local_model"
_EXAMPLES = """Examples:\n
  imgpipe predict --model imgpipe-out photo.jpg\n
  imgpipe predict --model imgpipe-out --version 2 photos/ --json\n
  imgpipe predict --server localhost:8500 photo.jpg
"""


_ImagesArgument = Annotated[
    list[Path], typer.Argument(metavar="IMAGES", help="Images, or folders of them.")
]
_ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="HOST:PORT",
        help="gRPC address, or http://HOST:PORT of the REST interface. "
        f"Default: {_SERVER}, unless --model names a folder.",
    ),
]
_ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="OUT|NAME",
        help="Output folder of a run, whose newest version is loaded without a server; or the "
        f"name of the served model. Default: the server's model {_MODEL}.",
    ),
]
_VersionOption = Annotated[
    int | None,
    typer.Option("--version", help="Version of the model. Default: the newest available one."),
]
_LabelOption = Annotated[
    str | None, typer.Option("--label", help="Version label instead of a number, such as stable.")
]
_CropOption = Annotated[
    str | None,
    typer.Option(
        "--crop",
        metavar="LEFT,TOP,RIGHT,BOTTOM",
        help="Region of each image, in pixels or as fractions from 0 to 1.",
    ),
]
_TenCropOption = Annotated[
    bool,
    typer.Option(
        "--ten-crop",
        help="Average the answers for ten crops of each image, which takes ten times as long.",
    ),
]
_TopOption = Annotated[int, typer.Option("--top", help="Number of labels shown for each image.")]
_AtOnceOption = Annotated[
    int | None,
    typer.Option("--at-once", help=f"Number of concurrent requests. Default: {_AT_ONCE}."),
]
_TimeoutOption = Annotated[
    float | None,
    typer.Option("--timeout", help=f"Seconds for each request. Default: {_TIMEOUT:g}."),
]
_AuthoritiesOption = Annotated[
    Path | None,
    typer.Option("--ca", metavar="PEM", help="TLS: certificates of the trusted authorities."),
]
_CertificateOption = Annotated[
    Path | None,
    typer.Option("--certificate", metavar="PEM", help="TLS: certificate of this client."),
]
_KeyOption = Annotated[
    Path | None, typer.Option("--key", metavar="PEM", help="TLS: private key of the certificate.")
]
_JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON; --json - is the same.")]


@app.command(rich_help_panel=options.SERVING, epilog=_EXAMPLES)
def predict(
    images: _ImagesArgument,
    server: _ServerOption = None,
    model: _ModelOption = None,
    version: _VersionOption = None,
    label: _LabelOption = None,
    crop: _CropOption = None,
    ten_crop: _TenCropOption = False,
    top: _TopOption = 5,
    at_once: _AtOnceOption = None,
    timeout: _TimeoutOption = None,
    ca: _AuthoritiesOption = None,
    certificate: _CertificateOption = None,
    key: _KeyOption = None,
    header: options.HeaderOption = None,
    as_json: _JsonOption = False,
) -> None:
    """Classify images, using a server or, with --model OUT, a local model."""
    if as_json:  # other commands take the file of --json, for which "-" is standard output
        images = [path for path in images if path != Path("-")]
        missing = [path for path in images if path.suffix == ".json" and not path.exists()]
        if missing:
            raise ConfigError(
                f"{missing[0]}: there is no such file. {options.json_is_printed(missing[0])}"
            )
    # The default name is not taken for a folder, such as that of a clone of the repository.
    folder = None if server or model is None else _folder(model)
    seconds = _TIMEOUT if timeout is None else timeout
    given = (server or _SERVER, model or _MODEL, version, label, seconds, ca, certificate, key)
    endpoint = Endpoint(*given, headers(header), folder)
    endpoint.check({"--timeout": timeout, "--at-once": at_once})
    question: Classifying = {
        "crop": crop,
        "ten_crop": ten_crop,
        "top": top,
        "at_once": _AT_ONCE if at_once is None else at_once,
    }
    raise typer.Exit(_run(images, endpoint, question, as_json))


def _folder(model: str) -> Path | None:
    """Return the folder that ``--model`` names, None if it is the name of a served model."""
    path = Path(model).expanduser()
    # No served model has a slash in its name, so a path that does not exist is reported as one.
    return path if os.sep in model or path.is_dir() else None


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
    timeout: float = _TIMEOUT
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None  # where the model is, to load it here instead of asking a server

    def check(self, others: Mapping[str, float | None]) -> None:
        """Refuse options that have an effect on a server only, if the model is loaded here.

        Args:
            others: Further options of this kind, None for those that were not given.

        Raises:
            ConfigError: There is such an option; the message names it.
        """
        for_server = {
            "--label": self.label,
            "--ca": self.ca,
            "--certificate": self.certificate,
            "--key": self.key,
            "--header": self.headers,
        }
        given = [name for name, value in for_server.items() if value]
        given += [name for name, value in others.items() if value is not None]
        if self.folder is not None and given:
            raise ConfigError(
                f"{', '.join(given)}: expected only with a server, because --model {self.model} is "
                "a folder and its model is loaded without one. Name the server with --server, or "
                f"remove {given[0]}."
            )

    def client(self) -> Client:
        """Return a client, which connects with its first request.

        Raises:
            ConfigError: There is no such version, or only the client is installed.
            ResourceError: There is no model in the folder.
        """
        from imgpipe.serving.client import Client, Tls

        if self.folder is not None:
            return self._local(self.folder)

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

    def _local(self, folder: Path) -> Client:
        """Load the model; by name, because the client's distribution leaves that module out."""
        if not folder.is_dir():
            raise ResourceError(f"no model in {folder}: there is no such folder.")
        try:
            local = importlib.import_module(_LOCAL)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"--model {folder} loads the model here, for which {error.name} is missing. "
                "Install imgpipe, of which imgpipe-client is only a part, or ask a server with "
                "--server."
            ) from None
        client: Client = local.load(folder, self.version)
        return client


def _run(paths: Sequence[Path], endpoint: Endpoint, question: Classifying, as_json: bool) -> int:
    """Classify images and print the answers; returns the exit code."""
    from imgpipe.serving.client import DeadlineExceeded, NotFound, ServingError, Unavailable
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
    # What was answered before an error is printed too.
    answers = [(files[number], done[number]) for number in sorted(done)]
    if answers:
        (_print_json if as_json else _print_table)(answers)
    if failure is not None:
        # A server says NOT_FOUND of a version that it is still loading.
        hint = _loading(endpoint) if isinstance(failure, NotFound) else ""
        if isinstance(failure, NotFound | Unavailable | DeadlineExceeded):
            hint = hint or _no_folder(endpoint) or _rest_address(endpoint)
        raise ServerError(endpoint.server, endpoint.model, failure, hint) from failure
    return _refusals(answers)


def _no_folder(endpoint: Endpoint) -> str:
    """Say that ``--model`` was taken for the name of a served model, if a folder may be meant."""
    if endpoint.model == _MODEL or endpoint.server != _SERVER:
        return ""
    return f" (There is no folder {endpoint.model!r}, so --model was taken for a model's name.)"


def _rest_address(endpoint: Endpoint) -> str:
    """Say how the REST interface is addressed, if gRPC was sent to its usual port."""
    if "://" in endpoint.server or not endpoint.server.endswith(_REST_PORT):
        return ""
    return f" (For the REST interface, use --server http://{endpoint.server}.)"


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
    from imgpipe.serving.client import ServingError

    image = {"schema": SCHEMA, "image": str(path)}
    if isinstance(answer, ServingError):
        return {**image, "error": str(answer)}
    return {
        **image,
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
