"""Options for a gateway between client and server: headers, path prefix and compression."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from typer.testing import CliRunner

from imgpipe.pipeline.application import app
from imgpipe.serving.client import Client, InvalidArgument, ServingError, Unavailable, errors

HEADERS = {"Authorization": "Bearer secret", "Host": "model.example", "X-Tenant": "a b"}
METADATA = b'{"model_spec": {"name": "m", "version": "1"}, "metadata": {"signature_def": {}}}'


@pytest.fixture
def gateway() -> Iterator[tuple[str, list[Any]]]:
    """Return the address of an HTTP server and the list of the requests that it received.

    It answers requests for metadata with ``METADATA`` and refuses all others with status 403.
    """
    seen: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen.append((self.path, dict(self.headers), body))
            described = self.path.endswith("/metadata")
            self.send_response(200 if described else 403)
            self.end_headers()
            self.wfile.write(METADATA if described else b'{"error": "not for you"}')

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    thread.join()
    server.server_close()


def test_grpc_sends_headers_as_metadata_and_host_as_authority(scripted, ask):
    def answer(method: str, request: bytes, context: Any) -> bytes:
        sent.update(context.invocation_metadata())
        return b""

    sent: dict[str, str] = {}
    target, _ = scripted(answer)
    ask(target, "status", client={"headers": HEADERS})
    assert (sent["authorization"], sent["x-tenant"]) == ("Bearer secret", "a b")
    assert "host" not in sent


def test_rest_sends_headers_below_the_prefix_of_the_address(gateway, ask):
    address, seen = gateway
    with pytest.raises(ServingError, match="not for you"):
        ask(f"{address}/team/serving/", "status", client={"model": "m", "headers": HEADERS})
    [(path, headers, _)] = seen
    assert path == "/team/serving/v1/models/m"
    for name, value in HEADERS.items():
        assert headers[name] == value


def test_a_gateway_without_its_server_counts_as_unavailable():
    error = errors.from_http(502, "Bad Gateway", "https://gateway")
    assert isinstance(error, Unavailable), "so that the client waits and asks again"


def test_rest_compresses_requests_when_asked(gateway, ask):
    address, seen = gateway
    with pytest.raises(ServingError, match="not for you"):
        ask(address, "predict", {"x": [1.0]}, client={"model": "m", "compression": "gzip"})
    path, headers, body = seen[-1]
    assert path == "/v1/models/m/versions/1:predict"
    assert headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(body)) == {"inputs": {"x": [1.0]}}


@pytest.mark.parametrize("name", ["half"])
def test_a_compressed_request_gets_the_same_answer(name, half, ask):
    prediction = ask(half, "predict", {"x": [[2.0]]}, client={"model": name, "compression": "gzip"})
    assert prediction.outputs["y"].tolist() == [[3.0]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"headers": {"a b": "c"}}, "A header needs a name of letters"),
        ({"headers": {"a": "line\r\nInjected: 1"}}, "printable ASCII"),
        ({"compression": "zip"}, 'compression must be "" or "gzip"'),
    ],
)
def test_invalid_headers_and_compressions_are_refused(options: dict[str, Any], words: str):
    with pytest.raises(InvalidArgument, match=words):
        Client("localhost:1", **options)


@pytest.mark.parametrize("command", ["predict", "load"])
def test_the_commands_send_headers(command: str, gateway, tmp_path):
    address, seen = gateway
    (tmp_path / "a.jpg").write_bytes(b"x")
    target = ("--server", address) if command == "predict" else (address,)
    images = (str(tmp_path / "a.jpg"),) if command == "predict" else ()
    header = ("--header", "Authorization: Bearer secret")
    CliRunner().invoke(app, [command, *images, *target, *header])
    assert seen and seen[0][1]["Authorization"] == "Bearer secret"
