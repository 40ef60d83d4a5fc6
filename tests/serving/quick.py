"""Servers in tests, on any free port and with quick polls, and what they are asked."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgpipe.serving.server.settings import ServerSettings
from tests.images import encoded, noise

if TYPE_CHECKING:
    from imgpipe.serving.server.server import ModelServer

POLL_S = 0.05


def quick(**changes: Any) -> ServerSettings:
    """Return settings of a server that finds versions quickly."""
    usual = {
        "port": 0,
        "rest_api_port": 0,
        "web_page": False,
        "file_system_poll_wait_seconds": POLL_S,
    }
    return ServerSettings(**usual | changes)


@contextmanager
def running(base: Path, name: str = "m", **changes: Any) -> Iterator[ModelServer]:
    """Serve the versions below a folder, and wait until one of them answers."""
    from imgpipe.serving.server.server import ModelServer

    with ModelServer(name, base, quick(**changes)) as server:
        server.wait_until_available(120)
        yield server


def served_by_program(*words: str | Path) -> tuple[subprocess.Popen[str], list[dict[str, Any]]]:
    """Start `imgpipe serve`; return the process and its JSON lines until a version answers."""
    from tests import json_formats

    process = subprocess.Popen(
        [sys.executable, "-m", "imgpipe", "serve", *words, "--port", "0", "--json", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where `nohup` has started the tests, the program would ignore this signal, as it should.
        preexec_fn=functools.partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),
    )
    assert process.stdout is not None
    lines = []
    for text in process.stdout:
        lines.append(json.loads(text))
        json_formats.conform("serve", lines[-1])
        if lines[-1].get("state") == "AVAILABLE":
            break
    return process, lines


def ask(
    signature: str = "",
    model: str = "m",
    outputs: Sequence[str] = (),
    version: int | None = None,
    label: str = "",
    **inputs: Any,
) -> Any:
    """Return a PredictRequest; inputs are arrays, lists or TensorProtos."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    for alias, value in inputs.items():
        is_tensor = hasattr(value, "tensor_shape")
        request.inputs[alias].CopyFrom(value if is_tensor else tf.make_tensor_proto(value))
    return request


def photograph(seed: int = 0, kind: str = "JPEG") -> bytes:
    """Return an encoded image of 20 x 24 pixels of noise."""
    return encoded(noise(seed, (20, 24)), kind)


def eventually(check: Callable[[], bool]) -> None:
    """Wait until a check returns true, or fail after a minute."""
    end = time.monotonic() + 60
    while not check():
        assert time.monotonic() < end, f"not within a minute: {check}"
        time.sleep(0.02)


def b64(data: bytes) -> dict[str, str]:
    """Return bytes as the JSON object of TensorFlow Serving's REST API."""
    return {"b64": base64.b64encode(data).decode()}


@dataclass(frozen=True)
class Answer:
    """Status, body and headers of an HTTP answer."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        return json.loads(self.body)

    def error(self) -> str:
        """Return the message of an error, which must be the only field of the JSON."""
        (message,) = self.json().values()
        assert list(self.json()) == ["error"]
        return message


def asked(address: str, verb: str, path: str, body: Any, headers: Mapping[str, str]) -> Answer:
    """Send one request on a new connection; a body that is not str or bytes is sent as JSON."""
    if body is not None and not isinstance(body, str | bytes):
        body = json.dumps(body)
    with contextlib.closing(http.client.HTTPConnection(address, timeout=30)) as connection:
        connection.request(verb, path, body, headers)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, answer.read(), found)


@dataclass(frozen=True)
class Rest:
    """A running server with its REST port and the calls that it has observed."""

    server: ModelServer
    calls: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server.calls.observers.append(self.calls.append)

    @property
    def port(self) -> int:
        return self.server.rest_port

    def ask(
        self, verb: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        return asked(f"127.0.0.1:{self.port}", verb, path, body, headers or {})

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def predict(self, body: Any, model: str = "", **options: Any) -> Answer:
        """Ask a model; without a name, the one that is served."""
        model = model or self.server.model.name
        return self.ask("POST", f"/v1/models/{model}:predict", body, **options)
