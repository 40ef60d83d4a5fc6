"""Fuzzed readers of models, configurations, requests, replies, logs and forms of pages.

Strangers may have made any of these files. Each reader takes one file of which the content is
mutated, and returns what `targets` compares.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from google.protobuf.message import DecodeError

MODEL_CLASSES = ("cat", "dog", "owl")


def refusals_of_the_server() -> tuple[type[Exception], ...]:
    """Return the errors with which the server refuses a file or a request."""
    from imgpipe.models.errors import ConfigError
    from imgpipe.serving.server.status import StatusError

    return ConfigError, StatusError


def refusals_of_a_message() -> tuple[type[Exception], ...]:
    """Return the errors for request bytes that the server answers with INVALID_ARGUMENT."""
    from imgpipe.serving.tensors import TensorError

    return TensorError, DecodeError


def refusals_of_the_client() -> tuple[type[Exception], ...]:
    """Return the errors with which the client refuses a reply.

    `DecodeError` stands for bytes that are no message, which gRPC itself answers.
    """
    from imgpipe.serving.client import ServingError

    return ServingError, DecodeError


def manifest(file: Path) -> object:
    """Verify a version whose manifest is `file` and whose other files are undamaged."""
    from imgpipe.components.common.storage import manifest as manifests
    from imgpipe.models.files.described_files import version_damage
    from imgpipe.serving.server import storage
    from imgpipe.serving.server.status import StatusError

    with tempfile.TemporaryDirectory(dir=file.parent) as base:
        version = Path(base) / "1"
        version.mkdir()
        (version / "saved_model.pb").write_bytes(b"a graph")
        shutil.copy(file, version)
        found = version_damage(version, "all")
        read = [[*v.vocabulary, v.run_key, v.identity] for v in manifests.versions(Path(base))]
        withdrawn = len(manifests.withdrawn(Path(base)))
        try:
            storage.verify(version)
            verified = "verified"
        except (StatusError, OSError) as error:
            verified = type(error).__name__
        return f"{found[:30]} {len(read)} {withdrawn} {verified}"


def schema(file: Path) -> object:
    """Read a schema, which people may have edited."""
    from imgpipe.components.data_gate import schema as schemas

    return len(schemas.read(file).feature)


def request(file: Path) -> object:
    """Parse a Predict request and decode its tensors."""
    from tensorflow_serving.apis import predict_pb2

    from imgpipe.serving import tensors

    message = predict_pb2.PredictRequest.FromString(file.read_bytes())
    return " ".join(tensors.to_array(tensor).dtype.name for tensor in message.inputs.values())


def request_log(file: Path) -> object:
    """Read a request log as `imgpipe drift` does."""
    from imgpipe.components.example_gen.sources.request_log import RequestLogSource
    from imgpipe.models.finding import Finding

    notes: list[Finding] = []
    answers = list(RequestLogSource(str(file)).answers(notes))
    places = sorted(
        note["reason"] + example["detail"][:12] for note in notes for example in note["examples"]
    )
    return f"{bool(answers)} {' '.join(places)}"


def reply(file: Path) -> object:
    """Decode the same bytes as each kind of gRPC reply."""
    from imgpipe.serving.client import channel, messages

    data = file.read_bytes()

    def classified() -> object:
        answer = messages.prediction(channel.PredictResponse.FromString(data))
        return messages.classifications(answer, 1, 3)

    readers: dict[str, Callable[[], object]] = {
        "predict": classified,
        "status": lambda: messages.statuses(channel.GetModelStatusResponse.FromString(data)),
    }
    return _as_each(readers)


def _as_each(readers: Mapping[str, Callable[[], object]]) -> str:
    """Call each reader; return which succeeded, and the errors of the others."""
    said = []
    for name, reader in readers.items():
        try:
            reader()
            said.append(name)
        except refusals_of_the_client() as error:
            said.append(f"{name} {type(error).__name__} {str(error)[-30:]}")
    return ", ".join(said)


def inspected(file: Path) -> object:
    """Read, decode and measure an image as ingestion does."""
    from imgpipe.components.example_gen.inspection import inspect
    from imgpipe.components.example_gen.sources.base import Item

    class Given:
        """A source whose only image is `file`."""

        def read(self, item: Item) -> bytes:
            return file.read_bytes()

    (record,) = inspect(Given(), [Item("x.jpg", "a")], 1_000_000)  # type: ignore[arg-type]
    content = record.content
    return f"{content.format} {content.mode} {content.is_measured} {content.decode_error}"


def review_answer(file: Path) -> object:
    """Send `file` as an answer to the web page of a review."""
    from starlette.testclient import TestClient

    from imgpipe.pipeline.commands import review
    from imgpipe.pipeline.review import web
    from tests.pipeline.review import run_to_review

    with tempfile.TemporaryDirectory(dir=file.parent) as place:
        run = run_to_review.leave(Path(place) / "out", Path(place))
        asked = review.prepare(run, None)
        client = TestClient(web.make_app(asked), "http://localhost")
        headers = {web.TOKEN: asked.token}
        answer = client.post("/review/answers", content=file.read_bytes(), headers=headers).json()
        return f"{'error' in answer} {str(answer.get('error', ''))[:60]}"
