"""The REST client against scripted servers that refuse requests or give malformed answers.

``test_rest`` has the behaviour against a real server.
"""

from __future__ import annotations

import asyncio
import http.client
import http.server
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from imgpipe.serving.client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    InternalError,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Retry,
    ServingError,
    Unavailable,
    Unimplemented,
    rest_codec,
)
from imgpipe.serving.client.options import Connection
from imgpipe.serving.client.rest import RestTransport, _Deadline

Answer = Callable[[str, str, bytes], tuple[int, bytes]]


@pytest.fixture
def http_server() -> Iterator[Callable[..., tuple[str, list[Any]]]]:
    """Return a function that starts a scripted HTTP server.

    It takes ``answer(verb, path, body)``, which returns status and body, and returns the server's
    address and the list of its requests.
    """
    running: list[tuple[Any, threading.Thread]] = []

    def start(answer: Answer) -> tuple[str, list[Any]]:
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
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}", seen

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


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
        (408, DeadlineExceeded),
    ],
)
def test_http_errors_have_typed_exceptions_and_are_not_retried(ask, http_server, status, kind):
    target, seen = http_server(lambda *_: (status, b'{"error": "words of the server"}'))
    with pytest.raises(kind, match="words of the server"):
        ask(target, "status")
    assert len(seen) == 1


def test_a_time_limit_of_the_server_is_not_reported_as_that_of_the_client(ask, http_server):
    target, _ = http_server(lambda *_: (504, b'{"error": "too slow"}'))
    words = r"its own time limit or the gateway's \(too slow\).*--rest_api_timeout_in_ms"
    with pytest.raises(DeadlineExceeded, match=words) as error:
        ask(target, "status")
    assert error.value.from_server


def test_unavailable_is_retried_within_the_deadline(ask, http_server):
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
    with pytest.raises(Unavailable, match=r"^loading$"):
        ask(target, "status", timeout=0.3)


def test_a_forked_process_opens_connections_of_its_own(http_server):
    target, seen = http_server(lambda *_: (200, b"{}"))
    with Client(target) as client:
        client.status()
        child = os.fork()
        if child == 0:
            try:
                client.status()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        client.status()
    parent, forked, again = (address for *_, address in seen)
    assert parent == again != forked


def test_a_timeout_may_be_longer_than_clocks_can_count(ask, http_server):
    target, _ = http_server(lambda *_: (200, b"{}"))
    assert ask(target, "status", timeout=float("inf")) == []


def test_many_calls_of_an_asyncio_client_are_sent_at_once(http_server):
    together = threading.Barrier(40)  # asyncio itself has at most 32 threads

    def answer(verb, path, body):
        together.wait(20)
        return 200, b"{}"

    target, _ = http_server(answer)

    async def go():
        async with AsyncClient(target) as client:
            return await asyncio.gather(*(client.status() for _ in range(together.parties)))

    assert asyncio.run(go()) == [[]] * together.parties


def test_answers_of_another_kind_of_server_are_refused(ask, http_server, half):
    for body in (b"<html>hello</html>", b"[" * 100_000, b'{"model_version_status": 3}'):
        target, _ = http_server(lambda *_, body=body: (200, body))
        with pytest.raises(ServingError, match=r"not the .* of TensorFlow Serving's REST"):
            ask(target, "status")
    with pytest.raises(ServingError, match="port of the gRPC interface"):
        ask(f"http://{half}", "status")
    for address in ("http://", "http://host:x", "http://host/v1", "http://host:1/?a=b"):
        with pytest.raises(InvalidArgument, match="http://host:port"):
            Client(address)


def test_a_call_succeeds_after_a_server_has_closed_many_idle_connections(http_server):
    """As after a burst of calls and a restart of the server: one failure tells of all."""
    target, seen = http_server(lambda *_: (200, b'{"model_version_status": []}'))
    with Client(target) as client:
        idle = client._transport._idle
        for _ in range(50):
            ours, theirs = socket.socketpair()
            theirs.close()
            stale = http.client.HTTPConnection("127.0.0.1")
            stale.sock = ours
            idle.put(stale)
        assert client.status() == []
        assert len(seen) == 1 and idle.qsize() == 1


@pytest.mark.parametrize("kind", ["Content-Length: 100", "Transfer-Encoding: chunked"])
def test_a_truncated_answer_is_retried_as_a_lost_connection(ask, kind):
    """The connection ends within the body, so the client asks a second time."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        asked = []

        def answer() -> None:
            for _ in range(2):
                connection, _ = listening.accept()
                with connection:
                    asked.append(connection.recv(1 << 16))
                    connection.sendall(f"HTTP/1.1 200 OK\r\n{kind}\r\n\r\n99\r\n{{".encode())

        thread = threading.Thread(target=answer)
        thread.start()
        port = listening.getsockname()[1]
        with pytest.raises(Unavailable, match="No model server is available"):
            ask(f"http://127.0.0.1:{port}", "status", client={"retry": Retry(2), "timeout": 5.0})
        thread.join(10)
    assert len(asked) == 2


@pytest.mark.parametrize("body", [rb'{"model_spec": {"\ud800": "1"}}', rb'{"\udc00": 1}'])
def test_an_answer_with_an_unpaired_surrogate_is_refused(body: bytes):
    """The parser of Protobuf raises an error that is not its own for such a name."""
    for read in (rest_codec.metadata_reply, rest_codec.status_reply):
        with pytest.raises(ServingError, match="surrogates not allowed"):
            read(body)


def test_an_answer_with_a_surrogate_pair_is_read():
    escaped = rb'{"model_version_status": [], "\ud83d\ude00": 1}'
    assert not rest_codec.status_reply(escaped).model_version_status


def test_closing_the_client_of_a_fork_does_not_end_calls_of_its_parent(http_server):
    forked = threading.Event()
    target, _ = http_server(lambda *_: (forked.wait(20) and 200, b"{}"))
    with Client(target, "m") as client, ThreadPoolExecutor(1) as threads:
        call = threads.submit(client.status)
        while not client._transport._busy:  # until the call is in flight
            time.sleep(0.01)
        child = os.fork()
        if child == 0:
            try:
                client.close()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        forked.set()
        assert call.result(20) == []


def test_closing_the_client_ends_calls_in_flight():
    """Otherwise Python would wait for their threads after Ctrl-C."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = Client(f"http://127.0.0.1:{listening.getsockname()[1]}", "m", timeout=60.0)
        with ThreadPoolExecutor(1) as threads:
            call = threads.submit(client.status)
            connection, _ = listening.accept()
            with connection:
                assert connection.recv(1 << 16)
                client.close()
                with pytest.raises(ServingError, match="is closed"):
                    call.result(20)


def test_a_call_that_has_ended_does_not_end_the_next_one_on_its_connection(http_server):
    go_on = threading.Event()
    target, seen = http_server(lambda *_: (len(seen) == 1 or go_on.wait(20)) and (200, b"{}"))
    transport, first = RestTransport(Connection(target)), _Deadline(20.0)
    transport._try_once("GET", "/", None, first)
    with ThreadPoolExecutor(1) as threads:
        second = threads.submit(transport._try_once, "GET", "/", None, _Deadline(20.0))
        while len(seen) < 2:
            time.sleep(0.01)
        first.end()
        go_on.set()
        assert second.result(20).status == 200
    assert len(seen) == 2, "the second call was not sent again"
    transport.close()


def test_a_cancelled_call_ends_its_connection():
    async def go(listening: socket.socket) -> bytes:
        loop = asyncio.get_running_loop()
        target = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with AsyncClient(target, "m", timeout=60.0) as client:
            call = asyncio.create_task(client.status())
            connection, _ = await loop.sock_accept(listening)
            with connection:
                connection.setblocking(False)
                assert await loop.sock_recv(connection, 1 << 16)
                call.cancel()
                await asyncio.wait([call])
                assert call.cancelled()
                return await asyncio.wait_for(loop.sock_recv(connection, 1), 20)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        assert asyncio.run(go(listening)) == b""
