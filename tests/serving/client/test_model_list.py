"""The list of a server's models through both clients, over gRPC and over REST."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import struct_pb2

from imgpipe.serving.client import (
    Client,
    ModelStatus,
    ServingError,
    Unavailable,
    Unimplemented,
    VersionStatus,
)
from imgpipe.serving.server import ModelServer
from imgpipe.serving.server.core import CoreOptions
from imgpipe.serving.server.rest.options import RestOptions
from imgpipe.serving.server.server import ServerOptions
from imgpipe.serving.server.versions.config import ModelConfig
from imgpipe.serving.server.versions.version_policy import VersionPolicy


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """Serve two versions of ``half``, one with a label, and a model without any version."""
    base = tmp_path_factory.mktemp("listed")
    (base / "empty").mkdir()
    for version in (3, 12):
        shutil.copytree(models / "half_plus_two", base / "half" / str(version))
    wanted = [
        ModelConfig("half", base / "half", VersionPolicy("all"), {"stable": 3}),
        ModelConfig("empty", base / "empty"),
    ]
    options = ServerOptions(core=CoreOptions(labels_for_unavailable=True), rest=RestOptions(0))
    with ModelServer(models=wanted, options=options) as running:
        with Client(running.target, "half") as client:
            for version in (3, 12):
                client.wait_until_available(60, version)
        yield running


@pytest.fixture(params=["grpc", "rest"])
def target(request: pytest.FixtureRequest, server: ModelServer) -> str:
    """Return the target for gRPC or for REST."""
    return server.target if request.param == "grpc" else server.rest_target


def test_every_model_is_listed_with_its_versions_and_labels(ask, target):
    assert ask(target, "models") == [
        ModelStatus("empty", [], {}),
        ModelStatus(
            "half",
            [VersionStatus(12, "AVAILABLE", 0, ""), VersionStatus(3, "AVAILABLE", 0, "")],
            {"stable": 3},
        ),
    ]


def test_the_listed_versions_equal_those_of_status(ask, target):
    listed = {model.name: model.versions for model in ask(target, "models")}
    assert listed["half"] == ask(target, "status", client={"model": "half"})


def test_a_grpc_server_without_the_service_raises_unimplemented(ask, scripted):
    def refuse(method: str, request: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "")

    target, seen = scripted(refuse)
    with pytest.raises(Unimplemented, match="does not list its models: only imgpipe's") as caught:
        ask(target, "models")
    assert f"The server at {target}" in str(caught.value)
    assert seen.seen == [("/imgpipe.serving.ServerService/ListModels", b"")]


def test_a_grpc_reply_that_is_not_a_list_of_models_is_an_error(ask, scripted):
    target, _ = scripted(lambda *_: struct_pb2.Struct().SerializeToString())
    with pytest.raises(ServingError, match=r"not a list of models \(KeyError: 'models'\)"):
        ask(target, "models")


@pytest.fixture
def answering() -> Iterator[Callable[[int, Any], str]]:
    """Return a function that starts an HTTP server and returns its address.

    The server answers every GET with the given status and JSON body.
    """
    servers = []

    def start(status: int, body: Any) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: Any) -> None:
                pass

        made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=made.serve_forever, daemon=True).start()
        servers.append(made)
        return f"http://127.0.0.1:{made.server_port}"

    yield start
    for made in servers:
        made.shutdown()
        made.server_close()


@pytest.mark.parametrize("status", [400, 404, 501])
def test_a_rest_server_without_the_path_raises_unimplemented(ask, answering, status):
    error = "Malformed request: GET /v1/server/models"  # TensorFlow Serving's answer, with 400
    target = answering(status, {"error": error})
    with pytest.raises(Unimplemented, match=f"does not list its models.*answer: {error}"):
        ask(target, "models")


@pytest.mark.parametrize("body", [[], {"models": 3}, {"models": [{"name": "m"}]}, {"models": [1]}])
def test_a_rest_reply_that_is_not_a_list_of_models_is_an_error(ask, answering, body):
    with pytest.raises(ServingError, match="The server's answer is not a list of models"):
        ask(answering(200, body), "models")


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_a_missing_server_raises_unavailable_and_not_unimplemented(ask, scheme):
    with pytest.raises(Unavailable, match="No model server is available"):
        ask(f"{scheme}127.0.0.1:9", "models", client={"timeout": 5.0})
