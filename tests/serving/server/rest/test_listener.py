"""Connections: slow, large and malformed ones, TLS, a port in use, and stopping the server."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import select
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from imgpipe.serving.server.textproto import SslConfig, read_ssl

from imgpipe.serving.server import ModelServer
from imgpipe.serving.server import tls as tls_module
from imgpipe.serving.server.errors import PortBusy
from imgpipe.serving.server.rest import acceptor, listener, protocol
from imgpipe.serving.server.rest import body as bodies
from imgpipe.serving.server.rest.options import RestOptions
from imgpipe.serving.server.server import ServerOptions
from imgpipe.serving.server.status import StatusError

GOOD = {"instances": [1]}
HEAD = b"POST /v1/models/half:predict HTTP/1.1\r\nHost: h\r\n"


def talk(port: int, *parts: bytes, timeout: float = 20.0) -> bytes:
    """Send parts without closing the connection, and read until the server closes it."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        found = b""
        try:
            for part in parts:
                connection.sendall(part)
            while part := connection.recv(65536):
                found += part
        except (ConnectionResetError, BrokenPipeError):
            pass
        return found


def test_connections_with_an_incomplete_head_are_closed(serve, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_S", 0.3)
    server = serve()
    for parts in ([], [HEAD], [b"G"]):
        assert talk(server.port, *parts) == b""
    assert server.predict(GOOD).status == 200
    # A connection that has served a request may be idle for longer than HEAD_S.
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for _ in range(2):
        connection.request("GET", "/v1/health/live")
        assert connection.getresponse().read() == b'{"live":true}'
        time.sleep(0.5)
    connection.close()


def test_a_body_that_does_not_arrive_is_answered_408(serve):
    server = serve(RestOptions(0, timeout=0.4))
    answer = talk(server.port, HEAD, b"Content-Length: 100\r\n\r\n", b'{"inst')
    assert answer.startswith(b"HTTP/1.1 408") and b"not complete within 0.4 s" in answer
    assert server.predict(GOOD).status == 200


def test_small_bodies_are_read_while_large_ones_fill_the_memory():
    budget = bodies.Budget(100_000)

    def read(size: int) -> bytes:
        async def receive():
            return {"type": "http.request", "body": bytes(size)}

        return asyncio.run(bodies.read(receive, "", 1 << 20, budget))

    assert len(read(100_000)) == 100_000
    assert len(read(1_000)) == 1_000
    with pytest.raises(StatusError, match="large requests fill its memory"):
        read(70_000)
    budget.give_back(1_000)
    budget.give_back(100_000)
    assert len(read(70_000)) == 70_000


def test_chunks_beyond_the_limit_are_answered_413(serve):
    server = serve(RestOptions(0, max_body_bytes=100_000))
    chunk = b"ffff\r\n" + b" " * 0xFFFF + b"\r\n"
    answer = talk(server.port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunk, chunk)
    assert answer.startswith(b"HTTP/1.1 413")
    assert server.predict(GOOD).status == 200


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
        b"GET /v1/models/\xff HTTP/1.1\r\nHost: h\r\n\r\n",
        HEAD + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"a" * 1_000_000,
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip\r\n\r\nabc",
        b"GET /v1/health/live HTTP/1.1\nHost: h\n\n",
        b"GET /v1/health/live HTTP/1.1\r\nHost: h\nX: 1\r\n\r\n",
        b"GET /v1/health/live HTTP/1.1\r\n\r\n",
        b"GET /v1/health/live HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ],
    ids=[
        "TLS",
        "nonsense",
        "length",
        "lengths",
        "chunk",
        "long path",
        "long header",
        "bytes",
        "header in one read",
        "long trailer",
        "length and encoding",
        "encoding and length",
        "unknown encoding",
        "bare line feeds",
        "one bare line feed",
        "no host",
        "two hosts",
    ],
)
def test_malformed_requests_are_refused_and_the_server_still_answers(rest, sent):
    answer = talk(rest.port, sent)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    assert rest.predict(GOOD).status == 200


def test_upgrade_headers_are_ignored(rest):
    """``curl --http2`` asks for HTTP/2 in an otherwise ordinary request."""
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAA\r\n"
    body = b"Content-Length: 18\r\n\r\n" + b'{"instances": [2]}'
    last = HEAD + b"Connection: close\r\n" + body
    chunked = HEAD + upgrade + b"Transfer-Encoding: chunked\r\n\r\n"
    chunks = b'c\r\n{"instances"\r\n', b"6\r\n: [4]}\r\n0\r\n\r\n"
    get = b"GET /v1/models/half HTTP/1.1\r\nHost: h\r\n" + upgrade + b"\r\n"
    answer = talk(rest.port, HEAD + upgrade + body, chunked, *chunks, get + get + last)
    assert answer.count(b"HTTP/1.1 200") == 5, answer
    assert answer.count(b"[3.0\n") == 2 and answer.count(b"[4.0\n") == 1


def test_chunked_and_pipelined_requests_are_answered(rest):
    chunks = b"4\r\n" + b'{"in' + b"\r\n" + b"f\r\n" + b'stances": [1]} ' + b"\r\n0\r\n\r\n"
    one = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks
    last = HEAD + b"Connection: close\r\nContent-Length: 18\r\n\r\n" + b'{"instances": [2]}'
    answer = talk(rest.port, one + last)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert b"[2.5\n" in answer and b"[3.0\n" in answer


def test_answers_on_one_connection_are_not_delayed(rest):
    """Each answer would take 40 ms if its head were held back for its body."""
    connection = http.client.HTTPConnection("127.0.0.1", rest.port, timeout=10)
    times = []
    for _ in range(30):
        began = time.monotonic()
        connection.request("POST", "/v1/models/half:predict", b'{"instances": [1]}')
        assert b'"predictions": [2.5\n' in connection.getresponse().read()
        times.append(time.monotonic() - began)
    connection.close()
    assert sorted(times)[5] < 0.03


def test_requests_of_disconnected_clients_are_not_executed(serve):
    server = serve(max_workers=1)
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
    codes = [call.status for call in seen]
    assert codes.count("CANCELLED") == 5 and codes.count("OK") == 2


def test_stop_finishes_running_requests_and_refuses_new_ones(serve, eventually):
    """New requests get 503, and readiness changes at once.

    After the stop the port is free.
    """
    server = serve()
    server.predict({"signature_name": "slow", "inputs": 0})
    answers: list = []
    slow = {"signature_name": "slow", "inputs": 1.5}
    running = [
        threading.Thread(target=lambda: answers.append(server.predict(slow))) for _ in range(4)
    ]
    for thread in running:
        thread.start()
    eventually(lambda: server.server._rest._api.running == 4)
    finished: list[bool] = []
    stopping = threading.Thread(target=lambda: finished.append(server.server.stop(30)))
    stopping.start()
    time.sleep(0.05)
    for body in (GOOD, bytes(20 << 20)):  # the answer arrives only if the whole body is read
        answer = server.predict(body)
        assert answer.status == 503 and "stopping" in answer.error()
        assert answer.headers["connection"] == "close"
    assert server.get("/v1/health/ready").status == 503
    assert server.get("/v2/health/live").status == 200
    for thread in [*running, stopping]:
        thread.join()
    assert [answer.status for answer in answers] == [200] * 4
    assert finished == [True]
    with pytest.raises(ConnectionRefusedError, match="Connection refused"):
        server.get("/v1/health/live")
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", server.port))


def test_stop_does_not_wait_longer_than_the_grace_period(serve, eventually):
    server = serve()
    server.predict({"signature_name": "slow", "inputs": 0})
    failures: list = []

    def long() -> None:
        try:
            failures.append(server.predict({"signature_name": "slow", "inputs": 2.4}).status)
        except (OSError, http.client.HTTPException) as error:
            failures.append(error)

    running = threading.Thread(target=long)
    running.start()
    eventually(lambda: server.server._rest._api.running == 1)
    assert server.server.stop(0.3) is False
    running.join()
    assert len(failures) == 1 and failures != [200]


def test_the_error_names_a_port_in_use(serve, tmp_path):
    server = serve()
    other = ModelServer("m", tmp_path, options=ServerOptions(rest=RestOptions(server.port)))
    with pytest.raises(PortBusy, match=rf":{server.port} \(REST\): the port is taken"):
        other.start()
    other.stop(0)


def secured(certificates, verify: bool) -> SslConfig:
    """Return TLS settings of the server; ``verify`` demands certificates of clients."""
    certificate, key = certificates.server
    return SslConfig(key.read_text(), certificate.read_text(), certificates.ca.read_text(), verify)


def secure_status(port: int, ca: Path, client: Sequence[Path] = ()) -> int:
    """Return the HTTP status of the model's status over TLS."""
    context = ssl.create_default_context(cafile=ca)
    if client:
        context.load_cert_chain(*client)
    connection = http.client.HTTPSConnection("localhost", port, timeout=5, context=context)
    try:
        connection.request("GET", "/v1/models/half")
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("verify", [False, True], ids=["TLS", "mTLS"])
def test_tls_and_mutual_tls_work_as_for_grpc(serve, certificates, verify):
    server = serve(tls=secured(certificates, verify))
    target = server.server.rest_target
    assert target.startswith("https://127.0.0.1:")
    assert secure_status(server.port, certificates.ca, certificates.client) == 200
    if verify:
        with pytest.raises(OSError):  # noqa: PT011 - a reset, or the alert of TLS
            secure_status(server.port, certificates.ca)
    else:
        assert secure_status(server.port, certificates.ca) == 200
    assert talk(server.port, HEAD + b"\r\n")[:4] != b"HTTP"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificates.ca)
    context.load_cert_chain(*certificates.client)
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        assert wrapped.version() in ("TLSv1.2", "TLSv1.3")


def silent(port: int, count: int) -> list[socket.socket]:
    """Open connections that send nothing."""
    return [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(count)]


def ended(connections: list[socket.socket], seconds: float) -> int:
    """Return how many connections the server has closed after ``seconds``; close them all."""
    end = time.monotonic() + seconds
    gone: set[socket.socket] = set()
    while len(gone) < len(connections) and time.monotonic() < end:
        found, _, _ = select.select([one for one in connections if one not in gone], [], [], 0.1)
        gone.update(found)
    for connection in connections:
        connection.close()
    return len(gone)


def test_handshakes_have_a_deadline(serve, certificates, monkeypatch):
    monkeypatch.setattr(acceptor, "HANDSHAKE_S", 0.5)
    server = serve(tls=secured(certificates, False))
    assert ended(silent(server.port, 5), 10) == 5


def test_silent_connections_do_not_prevent_other_handshakes(serve, certificates, monkeypatch):
    monkeypatch.setattr(acceptor, "MAX_HANDSHAKES", 20)
    server = serve(tls=secured(certificates, False))
    connections = silent(server.port, 100)
    assert secure_status(server.port, certificates.ca) == 200
    # The oldest were closed; the others have ten seconds for their handshake.
    assert 80 <= ended(connections, 2) < 100


def test_new_connections_get_renewed_certificates(serve, certificates, tmp_path, monkeypatch):
    """Certificates are renewed without a restart.

    A file whose key does not match the certificate changes nothing.
    """
    monkeypatch.setattr(tls_module, "POLL_S", 0.05)
    file = tmp_path / "ssl.config"

    def write(key: Path, certificate: Path) -> None:
        texts = [path.read_text().replace("\n", "\\n") for path in (key, certificate)]
        new = tmp_path / "new"
        new.write_text('server_key: "{}" server_cert: "{}"'.format(*texts))
        new.replace(file)

    certificate, key = certificates.server
    write(key, certificate)
    server = serve(tls=read_ssl(file), tls_file=file)
    ports = (server.port, server.server.port)

    def shown() -> set[str]:
        return {ssl.get_server_certificate(("127.0.0.1", port)).strip() for port in ports}

    first, second = certificate.read_text().strip(), certificates.client[0].read_text().strip()
    assert shown() == {first}
    write(key, certificates.client[0])  # this certificate belongs to another key
    time.sleep(0.5)
    assert shown() == {first}
    write(certificates.client[1], certificates.client[0])
    end = time.monotonic() + 20
    while shown() != {second} and time.monotonic() < end:
        time.sleep(0.05)
    assert shown() == {second}


def test_idle_connections_are_closed_for_new_ones(serve, monkeypatch):
    monkeypatch.setattr(listener, "MAX_CONNECTIONS", 16)
    server = serve()
    kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    kept.request("GET", "/v1/health/live")
    assert kept.getresponse().read() == b'{"live":true}'
    connections = silent(server.port, 50)
    assert server.predict(GOOD).status == 200
    kept.request("GET", "/v1/health/live")  # connections without any request were closed first
    assert kept.getresponse().status == 200
    kept.close()
    assert 30 <= ended(connections, 2) < 50


def test_waiting_connections_are_accepted_together():
    """A pause after each would add up to seconds while the event loop is busy."""

    async def turns(count: int) -> int:
        with socket.create_server(("127.0.0.1", 0)) as bound, contextlib.ExitStack() as opened:
            for _ in range(count):
                opened.enter_context(socket.create_connection(bound.getsockname()))
            connected = []

            class Connected(asyncio.Protocol):
                def connection_made(self, transport):
                    connected.append(transport)

            accepting = acceptor.Acceptor(bound, Connected, None, set(), count * 2)
            turn = 0
            while len(connected) < count:
                turn += 1
                await asyncio.sleep(0)
            accepting.close()
            await accepting.wait_closed()
            for transport in connected:
                transport.abort()
            await asyncio.sleep(0.1)  # they close in a later turn of the event loop
            return turn

    assert asyncio.run(turns(96)) < 48
