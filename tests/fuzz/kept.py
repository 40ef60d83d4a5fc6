"""Fuzzed readers of the files that runs leave, and of the requests that the web pages send.

Each reader takes one file of which the content is mutated, and returns what `targets` compares.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from imgpipe.models.errors import ImgpipeError
from tests.fuzz import kept_seeds

_NAMES = ("20260101-100000", "20260102-100000")


# --- the folder of a run --------------------------------------------------------------------------
@contextlib.contextmanager
def _two_runs(file: Path) -> Iterator[Path]:
    """Yield an output folder with two runs; ``file`` replaces that file of the second one."""
    from tests.pipeline.past_runs import leave

    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        out = Path(folder)
        for number, name in enumerate(_NAMES, 1):
            leave(out, name, version=number, artifacts=kept_seeds.artifacts(out / "artifacts"))
        shutil.copy(file, out / "runs" / _NAMES[1] / file.name)
        yield out


def past_run(file: Path) -> object:
    """Read the summary or the artifacts of a run with each command that works on past runs."""
    from imgpipe.pipeline.commands import compare, runs
    from imgpipe.pipeline.commands import open as open_command
    from imgpipe.pipeline.output import places, removable_files

    with _two_runs(file) as out:
        readers: dict[str, Callable[[], object]] = {
            "runs": lambda: runs.command(out, 20, str(out / "runs.json")),
            "compare": lambda: compare.command(
                out / "runs" / _NAMES[0],
                out / "runs" / _NAMES[1],
                str(out / "compare.json"),
            ),
            "open": lambda: open_command.page_of(out / "runs" / _NAMES[1]),
            "clean": lambda: removable_files.find(out),
            "version": lambda: places.run(out / "model" / "2"),
        }
        return _as_each(readers)


def _as_each(readers: dict[str, Callable[[], object]]) -> str:
    """Call each reader with standard output hidden; return which succeeded and which refused."""
    said = []
    for name, reader in readers.items():
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                reader()
            said.append(name)
        except ImgpipeError as error:
            said.append(f"{name} refuses {str(error)[:9]}")
    return ", ".join(said)


def repeated(file: Path) -> object:
    """Read the record of a run by which a later one may repeat its outcome."""
    from imgpipe.pipeline.configuration import config as configs
    from imgpipe.pipeline.execution import repetition

    with _two_runs(file) as out:
        config = configs.load(out / "runs" / _NAMES[0] / "config.toml")
        return repetition.candidate(config, out / "runs")


def identity(file: Path) -> object:
    """Read the time and the command of a run."""
    from imgpipe.components.report import identity as identities

    return sorted(identities.of_run(str(file.parent)))


def seal(file: Path) -> object:
    """Verify an artifact of one file, whose seal is ``file``."""
    from imgpipe.components.storage import integrity

    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        artifact = Path(folder) / "1"
        artifact.mkdir()
        (artifact / "data").write_bytes(b"content")
        shutil.copy(file, integrity.seal_file(artifact))
        return integrity.damage(artifact, complete=True)


# --- networks and trainings -----------------------------------------------------------------------
@functools.cache
def _version() -> tempfile.TemporaryDirectory[str]:
    """Return a folder with the variables and the network of a small classifier, made once."""
    folder = tempfile.TemporaryDirectory()
    kept_seeds.write_network(Path(folder.name))
    return folder


def network(file: Path) -> object:
    """Load the network of a version in which one file is ``file`` and the others are undamaged."""
    import keras

    from imgpipe.models.network import network_file

    keras.utils.clear_session(free_memory=False)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        version = Path(folder) / "1"
        shutil.copytree(_version().name, version)
        shutil.copy(file, version / network_file.FOLDER / file.name)
        classifier = network_file.load(version)
        return f"{len(classifier.vocabulary)} {classifier.image_size}"


def model_digest(file: Path) -> object:
    """Read the image size of a version from its digest, as exports do."""
    from imgpipe.components.storage.manifest import MODEL_DIGEST
    from imgpipe.pipeline.published.model import Model

    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        place = Path(folder) / MODEL_DIGEST
        place.parent.mkdir(parents=True)
        shutil.copy(file, place)
        return Model(Path(folder), ("a", "b")).image_size


# --- pages ----------------------------------------------------------------------------------------
@contextlib.contextmanager
def _review(folder: Path, facts: Path | None = None) -> Iterator[Any]:
    """Yield a review of a run whose facts are replaced by the given file."""
    from imgpipe.pipeline.commands import review
    from tests.pipeline.review import run_to_review

    with tempfile.TemporaryDirectory(dir=folder) as place:
        run = run_to_review.leave(Path(place) / "out", Path(place))
        if facts is not None:
            shutil.copy(facts, run.folder / facts.name)
        yield review.prepare(run, None)


def facts(file: Path) -> object:
    """Read the facts of a run as the web page of a review does."""
    from imgpipe.pipeline.review import web

    with _review(file.parent, facts=file) as review:
        return [one["kind"] for one in json.loads(json.dumps(web.describe(review)))["questions"]]


def review_answer(file: Path) -> object:
    """Send ``file`` as an answer to the web page of a review."""
    from imgpipe.pipeline.review import web

    with _review(file.parent) as review:
        headers = {"host": "localhost", web.TOKEN.lower(): review.token}
        return _posted(web.make_app(review), "/review/answers", file.read_bytes(), headers)


def correction(file: Path) -> object:
    """Read the query string of a correction, which names a model, a version and a class."""
    from starlette.requests import Request

    from imgpipe.serving.server.web import collection

    query = file.read_bytes()
    spec, label = collection.version_and_label(Request({"type": "http", "query_string": query}))
    return f"{spec.version is None} {label.isprintable()}"


def _posted(app: Any, path: str, body: bytes, headers: dict[str, str]) -> str:
    """Post a body to an ASGI application; return whether the answer is an error, and its message.

    An exception of the application is not caught.
    """
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": encoded,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    answer = json.loads(b"".join(message.get("body", b"") for message in sent))
    return f"{'error' in answer} {str(answer.get('error', ''))[:60]}"
