"""Servers with both interfaces, and plain HTTP requests to them."""

from __future__ import annotations

import http.client
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from imgpipe.serving.server import ModelServer
from tests.serving.quick import quick


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


@dataclass(frozen=True)
class Rest:
    """A running server with its REST port and the calls that it has observed."""

    server: ModelServer
    calls: list[Any] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.server.rest_port

    def ask(
        self, verb: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send one request on a new connection; a body that is not str or bytes is sent as JSON."""
        if body is not None and not isinstance(body, str | bytes):
            body = json.dumps(body)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(verb, path, body, headers or {})
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, answer.read(), found)
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def predict(self, body: Any, model: str = "", **options: Any) -> Answer:
        """Ask a model; without a name, the one that is served."""
        model = model or self.server.core.model.config.name
        return self.ask("POST", f"/v1/models/{model}:predict", body, **options)


@pytest.fixture(scope="session")
def rest(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    """Serve half_plus_two as version 123 of `half`."""
    yield from _served("half", models / "half_plus_two", tmp_path_factory.mktemp("half") / "123")


@pytest.fixture(scope="session")
def classifier(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    """Serve the classifier of images as version 7 of `imgpipe`."""
    yield from _served("imgpipe", models / "images", tmp_path_factory.mktemp("images") / "7")


def _served(name: str, model: Path, version: Path) -> Iterator[Rest]:
    shutil.copytree(model, version)
    with ModelServer(name, version.parent, quick(rest_api_port=-1)) as server:
        server.wait_until_available(60)
        made = Rest(server)
        server.calls.observers.append(made.calls.append)
        yield made


@pytest.fixture
def serve(push: Callable[..., Path], tmp_path: Path) -> Iterator[Callable[..., Rest]]:
    """Return a function that serves half_plus_two as version 3 of `half`, with settings."""
    running: list[ModelServer] = []

    def start(**changes: Any) -> Rest:
        push("half_plus_two", tmp_path / "half", 3)
        settings = quick(rest_api_port=-1, **changes)
        server = ModelServer("half", tmp_path / "half", settings)
        server.start()
        running.append(server)
        server.wait_until_available(60)
        return Rest(server)

    yield start
    for server in running:
        server.stop(5)
