"""Connections: slow, large and malformed ones, a port in use, and stopping the server."""

import http.client
import socket
import threading
import time

import pytest

from imgpipe.serving.server import ports
from imgpipe.serving.server.rest import port
from tests.serving.quick import eventually

GOOD = {"instances": [1]}
HEAD = b"POST /v1/models/half:predict HTTP/1.1\r\nHost: localhost\r\n"


def talk(address: int, *parts: bytes, timeout: float = 20.0) -> bytes:
    """Send parts without closing the connection, and read until the server closes it."""
    with socket.create_connection(("127.0.0.1", address), timeout=timeout) as connection:
        found = b""
        try:
            for part in parts:
                connection.sendall(part)
            while part := connection.recv(65536):
                found += part
        except (ConnectionResetError, BrokenPipeError):
            pass
        return found


def test_too_many_connections_are_answered_503_until_the_silent_ones_are_ended(serve, monkeypatch):
    monkeypatch.setattr(ports, "MAX_CONNECTIONS", 4)
    monkeypatch.setattr(port, "_LOOK_S", 1.0)
    server = serve()
    silent = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(4)]
    assert server.predict(GOOD).status == 503
    eventually(lambda: server.predict(GOOD).status == 200)
    for connection in silent:
        assert connection.recv(1) == b"", "it was ended"
        connection.close()


@pytest.mark.parametrize("sent", [b"", HEAD])
def test_a_connection_that_begins_no_request_is_ended(serve, monkeypatch, sent):
    monkeypatch.setattr(ports, "IDLE_S", 1)
    monkeypatch.setattr(port, "_LOOK_S", 0.1)
    assert talk(serve().port, sent, timeout=5) == b""


def test_a_body_that_does_not_arrive_is_answered_408(serve):
    server = serve(rest_api_timeout_in_ms=1_000)
    answer = talk(server.port, HEAD, b"Content-Length: 100\r\n\r\n", b'{"inst')
    assert answer.startswith(b"HTTP/1.1 408") and b"not complete within 1 s" in answer
    assert server.predict(GOOD).status == 200


def test_chunks_beyond_the_limit_are_answered_413(serve):
    server = serve(max_body_bytes=100_000)
    chunk = b"ffff\r\n" + b" " * 0xFFFF + b"\r\n"
    answer = talk(server.port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunk, chunk)
    assert answer.startswith(b"HTTP/1.1 413")
    assert server.predict(GOOD).status == 200


@pytest.mark.parametrize("size", [1, 4096])
def test_chunks_as_clients_send_them_are_read(rest, size):
    """A program may write a small body value by value, and sends a file in pieces."""
    whole = b'{"instances": [1]}' + b" " * (800 if size == 1 else 8 << 20)
    chunks = (whole[begin : begin + size] for begin in range(0, len(whole), size))
    parts = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    head = HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    assert talk(rest.port, head, parts, b"0\r\n\r\n").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),
        b"NONSENSE\r\n\r\n",
        HEAD + b"Content-Length: x\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nabc\r\n0\r\n\r\n",
        b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
        HEAD + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n",
        b"GET /v1/models/\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"a" * 1_000_000,
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip\r\n\r\nabc",
        b"GET /v1/health/live HTTP/1.1\r\n\r\n",
        b"GET /v1/health/live HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ],
    ids=range(14),
)
def test_malformed_requests_are_refused_and_the_server_still_answers(rest, sent):
    answer = talk(rest.port, sent)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    assert rest.predict(GOOD).status == 200


def test_answers_on_one_connection_are_not_delayed(rest):
    """Each answer would take 40 ms if its head were held back for its body."""
    connection = http.client.HTTPConnection("127.0.0.1", rest.port, timeout=10)
    times = []
    for _ in range(30):
        began = time.monotonic()
        connection.request("POST", "/v1/models/half:predict", b'{"instances": [1]}')
        assert b'"predictions":[2.5]' in connection.getresponse().read()
        times.append(time.monotonic() - began)
    connection.close()
    assert sorted(times)[5] < 0.03


def test_requests_of_disconnected_clients_are_not_executed(serve):
    server = serve(grpc_max_threads=1)
    seen: list = []
    server.predict({"signature_name": "slow", "inputs": 0})
    server.server.calls.observers.append(seen.append)
    running = threading.Thread(
        target=server.predict, args=({"signature_name": "slow", "inputs": 1.8},)
    )
    running.start()
    time.sleep(0.1)
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(HEAD + b"Content-Length: 18\r\n\r\n" + b'{"instances": [2]}')
            time.sleep(0.02)
    running.join()
    assert server.predict(GOOD).status == 200
    codes = [call.code.name for call in seen]
    assert codes.count("CANCELLED") == 5 and codes.count("OK") == 2


def test_stop_finishes_running_requests_and_refuses_new_ones(serve):
    """New requests get 503, readiness changes at once, and after the stop the port is free."""
    server = serve()
    server.predict({"signature_name": "slow", "inputs": 0})
    answers: list = []
    slow = {"signature_name": "slow", "inputs": 1.5}
    running = [
        threading.Thread(target=lambda: answers.append(server.predict(slow))) for _ in range(4)
    ]
    for thread in running:
        thread.start()
    eventually(lambda: server.server._rest.running == 4)
    finished: list[bool] = []
    stopping = threading.Thread(target=lambda: finished.append(server.server.stop(30)))
    stopping.start()
    time.sleep(0.05)
    for body in (GOOD, bytes(20 << 20)):  # the answer arrives only if the whole body is read
        answer = server.predict(body)
        assert answer.status == 503 and "shutting down" in answer.error()
        assert answer.headers["connection"] == "close"
    assert server.get("/v1/health/ready").status == 503
    assert server.get("/v1/health/live").status == 200
    for thread in [*running, stopping]:
        thread.join()
    assert [answer.status for answer in answers] == [200] * 4
    assert finished == [True]
    with pytest.raises(ConnectionRefusedError, match="Connection refused"):
        server.get("/v1/health/live")
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", server.port))
