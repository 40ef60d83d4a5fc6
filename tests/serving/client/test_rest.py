"""The REST fallback: the same messages as JSON, the same errors, the same retries.

Bodies are those of TensorFlow Serving's documentation and of its own tests.
"""

from __future__ import annotations

import base64
import http.server
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from serving.client import (
    Client,
    DeadlineExceeded,
    InternalError,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Retry,
    ServingError,
    Tls,
    Unavailable,
    Unimplemented,
)


def tensor(dtype: str, *shape: int) -> dict[str, Any]:
    dims = [{"size": str(size), "name": ""} for size in shape]
    return {"dtype": dtype, "tensor_shape": {"dim": dims, "unknown_rank": False}, "name": "t:0"}


def described(version: int = 123, **signatures: dict[str, Any]) -> bytes:
    body = {
        "model_spec": {"name": "half", "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }
    return json.dumps(body).encode()


HALF = {
    "inputs": {"x": tensor("DT_FLOAT", -1)},
    "outputs": {"y": tensor("DT_FLOAT", -1)},
    "method_name": "tensorflow/serving/predict",
}
MANY = {
    "inputs": {"x": tensor("DT_STRING", -1)},
    "outputs": {
        "classes": tensor("DT_STRING", -1, 2),
        "probabilities": tensor("DT_FLOAT", -1, 2),
        "raw_bytes": tensor("DT_STRING", -1),
        "count": tensor("DT_INT64"),
    },
    "method_name": "",
}

Answer = Callable[[str, str, bytes], tuple[int, bytes]]


@pytest.fixture
def http_server() -> Iterator[Callable[..., tuple[str, list[Any]]]]:
    """Start a scripted HTTP server: answer(verb, path, body); returns its address and requests."""
    running: list[tuple[Any, threading.Thread]] = []

    def start(answer: Answer, context: ssl.SSLContext | None = None) -> tuple[str, list[Any]]:
        seen: list[Any] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                seen.append((self.command, self.path, body, self.client_address))
                status, content = answer(self.command, self.path, body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = handle_any

            def log_message(self, *_: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        scheme = "http"
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
            scheme = "https"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        running.append((server, thread))
        return f"{scheme}://127.0.0.1:{server.server_port}", seen

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


def model(predictions: dict[str, Any], **signatures: Any) -> Answer:
    signatures = signatures or {"serving_default": HALF}

    def answer(verb: str, path: str, body: bytes) -> tuple[int, bytes]:
        if path.endswith("/metadata"):
            return 200, described(**signatures)
        return 200, json.dumps(predictions).encode()

    return answer


def test_predict_names_the_version_that_answered(ask, http_server):
    target, seen = http_server(model({"outputs": [3.0, 3.5, 4.0]}))
    answer = ask(target, "predict", {"x": np.float32([2, 3, 4])}, client={"model": "half"})
    assert answer.outputs["y"].dtype == np.float32
    assert answer.outputs["y"].tolist() == [3.0, 3.5, 4.0]
    assert (answer.model, answer.version, answer.signature_name) == (
        "half",
        123,
        "serving_default",
    )
    (get, path, *_), (post, where, body, _) = seen
    assert (get, path) == ("GET", "/v1/models/half/metadata")
    assert (post, where) == ("POST", "/v1/models/half/versions/123:predict")
    assert json.loads(body) == {"inputs": {"x": [2.0, 3.0, 4.0]}}


def test_bytes_go_as_base64_and_types_come_back(ask, http_server):
    target, seen = http_server(
        model(
            {
                "outputs": {
                    "classes": [["a", "ü"]],
                    "probabilities": [[0.25, 0.75]],
                    "raw_bytes": [{"b64": base64.b64encode(b"\xff\x00").decode()}],
                    "count": 2,
                }
            },
            many=MANY,
        )
    )
    inputs = {"x": [b"\xff\xd8"]}
    answer = ask(target, "predict", inputs, "many", client={"model": "half"})
    assert json.loads(seen[-1][2]) == {
        "signature_name": "many",
        "inputs": {"x": [{"b64": "/9g="}]},
    }
    assert answer.outputs["classes"].tolist() == [[b"a", "ü".encode()]]
    assert answer.outputs["raw_bytes"].tolist() == [b"\xff\x00"]
    assert answer.outputs["count"].dtype == np.int64
    filtered = ask(target, "predict", inputs, "many", ["count"], client={"model": "half"})
    assert list(filtered.outputs) == ["count"]
    with pytest.raises(InvalidArgument, match="alias not found in signature: z"):
        ask(target, "predict", inputs, "many", ["z"], client={"model": "half"})
    (image,) = ask(
        target,
        "classify",
        [b"\xff\xd8"],
        signature_name="many",
        input_name="x",
        client={"model": "half"},
    )
    assert (image.label, image.probability, image.version) == ("ü", 0.75, 123)


def test_nan_and_infinity(ask, http_server):
    def answer(verb, path, body):
        if path.endswith("/metadata"):
            return 200, described(serving_default=HALF)
        return 200, b'{"outputs": [NaN, Infinity, -Infinity]}'

    target, seen = http_server(answer)
    x = np.float32([np.nan, np.inf, -np.inf])
    y = ask(target, "predict", {"x": x}, client={"model": "half"}).outputs["y"]
    np.testing.assert_array_equal(y, x)
    assert seen[-1][2] == b'{"inputs": {"x": [NaN, Infinity, -Infinity]}}'


def test_versions_and_labels_are_in_the_path(ask, http_server):
    target, seen = http_server(model({"outputs": [3.0]}))
    x = {"x": [2.0]}
    ask(target, "predict", x, client={"model": "a/b", "version": 5})
    ask(target, "predict", x, client={"model": "half", "label": "very stable"})
    ask(target, "status", client={"model": "half", "label": "stable"})
    assert [path for _, path, *_ in seen] == [
        "/v1/models/a%2Fb/versions/5/metadata",
        "/v1/models/a%2Fb/versions/123:predict",
        "/v1/models/half/labels/very%20stable/metadata",
        "/v1/models/half/versions/123:predict",
        "/v1/models/half",
    ]


def test_a_named_version_is_described_once_on_one_connection(http_server):
    target, seen = http_server(model({"outputs": [3.0]}))
    with Client(target, "half", version=123) as client:
        for _ in range(5):
            client.predict({"x": [2.0]})
    assert [verb for verb, *_ in seen] == ["GET"] + ["POST"] * 5
    assert len({address for *_, address in seen}) == 1


def test_a_version_swapped_between_the_two_requests_is_no_error(ask, http_server):
    versions = iter([1, 2])

    def answer(verb, path, body):
        if path.endswith("/metadata"):
            return 200, described(next(versions), serving_default=HALF)
        if "/versions/1:" in path:
            return 404, b'{"error": "Servable not found for request: Specific(half, 1)"}'
        return 200, b'{"outputs": [3.0]}'

    target, _ = http_server(answer)
    assert ask(target, "predict", {"x": [2.0]}, client={"model": "half"}).version == 2


def test_status_and_metadata(ask, http_server):
    status = {
        "model_version_status": [
            {
                "version": "124",
                "state": "END",
                "status": {"error_code": "NOT_FOUND", "error_message": "gone"},
            },
            {
                "version": "123",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            },
        ]
    }

    def answer(verb, path, body):
        if path.endswith("/metadata"):
            return 200, described(serving_default=HALF)
        return 200, json.dumps(status).encode()

    target, _ = http_server(answer)
    end, available = ask(target, "status", client={"model": "half"})
    assert (end.version, end.state, end.error_code, end.error_message) == (124, "END", 5, "gone")
    assert (available.version, available.state, available.error_code) == (123, "AVAILABLE", 0)
    assert ask(target, "wait_until_available", client={"model": "half"}) == 123
    metadata = ask(target, "metadata", client={"model": "half"})
    assert (metadata.model, metadata.version) == ("half", 123)
    assert metadata.signatures["serving_default"].inputs["x"].shape == (None,)
    assert metadata.signatures["serving_default"].inputs["x"].dtype == "float"


def test_classify_and_regress_examples(ask, http_server):
    def answer(verb, path, body):
        if path.endswith("/metadata"):
            return 200, described(serving_default=HALF)
        if path.endswith(":classify"):
            return 200, b'{"results": [[["a", 0.25], ["b", 0.75]]]}'
        return 200, b'{"results": [1.5, 2.0]}'

    target, seen = http_server(answer)
    examples = [{"x": [1.0, 2.0], "b": b"\xff", "n": 3}]
    answer_ = ask(target, "classify_examples", examples, "s", {"c": "d"}, client={"model": "half"})
    assert answer_.examples == [[("a", 0.25), ("b", 0.75)]]
    assert json.loads(seen[-1][2]) == {
        "signature_name": "s",
        "context": {"c": {"b64": "ZA=="}},
        "examples": [{"x": [1.0, 2.0], "b": {"b64": "/w=="}, "n": 3}],
    }
    regressions = ask(target, "regress_examples", examples, client={"model": "half"})
    assert regressions.values.tolist() == [1.5, 2.0]
    for method, arguments in (
        ("multi_inference", ({"a": "classify"}, examples)),
        ("reload", ("model_config_list {}",)),
    ):
        with pytest.raises(Unimplemented, match="does not exist in the REST interface"):
            ask(target, method, *arguments, client={"model": "half"})


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidArgument),
        (404, NotFound),
        (413, ResourceExhausted),
        (429, ResourceExhausted),
        (500, InternalError),
        (501, Unimplemented),
        (504, DeadlineExceeded),
    ],
)
def test_errors_are_typed_and_not_retried(ask, http_server, status, kind):
    target, seen = http_server(lambda *_: (status, b'{"error": "words of the server"}'))
    with pytest.raises(kind, match="words of the server"):
        ask(target, "status")
    assert len(seen) == 1


def test_unavailable_is_tried_again_within_the_deadline(ask, http_server):
    left = [3]

    def answer(verb, path, body):
        left[0] -= 1
        return (503, b'{"error": "loading"}') if left[0] >= 0 else (200, b"{}")

    target, seen = http_server(answer)
    assert ask(target, "status") == []
    assert len(seen) == 4
    left[0] = 100
    with pytest.raises(Unavailable, match="loading"):
        ask(target, "status", client={"retry": Retry(attempts=2)})
    assert len(seen) == 6
    began = time.monotonic()
    with pytest.raises(Unavailable):
        ask(target, "status", timeout=0.3)
    assert time.monotonic() - began < 2


def test_a_connection_that_the_server_ended_is_made_anew(http_server):
    """As after a restart, or when an idle connection was dropped."""
    target, seen = http_server(model({"outputs": [3.0]}))
    with Client(target, "half", retry=Retry(attempts=1)) as client:
        client.predict({"x": [2.0]})
        for connection in client._transport._idle.queue:
            connection.sock.shutdown(socket.SHUT_RDWR)
        client.predict({"x": [2.0]})
    assert len(seen) == 4


def test_a_slow_server_meets_the_deadline(ask, http_server):
    def answer(verb, path, body):
        time.sleep(1.0)
        return 200, b"{}"

    target, _ = http_server(answer)
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"within 0\.2 s"):
        ask(target, "status", timeout=0.2)
    assert time.monotonic() - began < 3


def test_nobody_there(ask):
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"No model server is available at http://127.*Start one"):
        ask("http://127.0.0.1:9", "status", client={"timeout": 1.0})
    assert time.monotonic() - began < 5


def test_a_server_of_something_else_is_told_by_its_answer(ask, http_server, half):
    for body in (b"<html>hello</html>", b"[" * 100_000, b'{"model_version_status": 3}'):
        target, _ = http_server(lambda *_, body=body: (200, body))
        with pytest.raises(ServingError, match=r"not the .* of TensorFlow Serving's REST"):
            ask(target, "status")
    with pytest.raises(ServingError, match="port of the gRPC interface"):
        ask(f"http://{half}", "status")
    for address in ("http://", "http://host:x", "http://host/v1", "http://host:1/?a=b"):
        with pytest.raises(InvalidArgument, match="http://host:port"):
            Client(address)


def test_https_and_a_client_certificate(ask, http_server, certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.server)
    context.load_verify_locations(certificates.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    target, _ = http_server(lambda *_: (200, b"{}"), context)
    tls = Tls(certificates.ca, *certificates.client)
    assert ask(target, "status", client={"tls": tls}) == []
    for refused in (Tls(certificates.ca), Tls(certificates.stranger, *certificates.client), None):
        with pytest.raises(Unavailable):
            ask(target, "status", client={"tls": refused, "retry": Retry(1), "timeout": 5.0})


def test_a_closed_client_says_so(http_server):
    target, _ = http_server(lambda *_: (200, b"{}"))
    client = Client(target)
    client.status()
    client.close()
    with pytest.raises(ServingError, match="is closed"):
        client.status()
