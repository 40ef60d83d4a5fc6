"""The bytes of all requests together: what finds no room waits, and a silent body is ended."""

import contextlib
import select
import socket
import threading
import time

import numpy as np
import pytest

from imgpipe.serving.client import Client
from imgpipe.serving.server import calls
from tests.serving.quick import Rest, running

LARGEST = 1 << 20
HEAD = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
GOOD = {"instances": [1.0]}


@pytest.fixture
def small_room(push, tmp_path):
    """Serve half_plus_two as `m` with room for two of the largest requests."""
    push("half_plus_two", tmp_path, 1)
    sizes = {"max_body_bytes": LARGEST, "max_bytes_in_flight": 2 * LARGEST}
    with running(tmp_path, rest_api_port=-1, **sizes) as server:
        yield Rest(server)


@contextlib.contextmanager
def silent_bodies(port: int, count: int):
    """Yield connections that announce the largest body, and send one byte of it."""
    made = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(count)]
    for connection in made:
        connection.sendall(HEAD % LARGEST + b"{")
    yield made
    for connection in made:
        connection.close()


def read_to_its_end(connection: socket.socket) -> bytes:
    """Read an answer, whose head and body may come one after the other."""
    received = b""
    while b"}" not in received:
        received += connection.recv(65536) or b"}"
    return received


def ask_over_grpc(target: str) -> list[float]:
    """Return the outputs for x = [1]."""
    with Client(target, "m", timeout=20, attempts=1) as client:
        return client.predict({"x": np.float32([1])}).outputs["y"].tolist()


def test_a_request_that_finds_no_room_waits_and_the_silent_body_is_ended(small_room, monkeypatch):
    """Over both protocols, which share the room."""
    monkeypatch.setattr(calls, "SILENT_S", 0.5)
    for ask in (
        lambda: small_room.predict(GOOD).json() == {"predictions": [2.5]},
        lambda: ask_over_grpc(small_room.server.target) == [2.5],
    ):
        with silent_bodies(small_room.port, 2) as (one, _):
            time.sleep(0.2)
            began = time.monotonic()
            assert ask()
            assert time.monotonic() - began > 0.2, "it has waited"
            said = read_to_its_end(one)
            assert said.startswith(b"HTTP/1.1 504") and b"did not go on for 0.5 s" in said


def test_a_body_that_is_too_slow_to_be_complete_in_time_is_ended_while_others_wait(
    small_room, monkeypatch
):
    monkeypatch.setattr(calls, "SILENT_S", 0.5)
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not over.wait(0.1):
                connection.sendall(b" ")

    with silent_bodies(small_room.port, 2) as slow:
        drips = [threading.Thread(target=drip, args=[connection]) for connection in slow]
        for one in drips:
            one.start()
        assert small_room.predict(GOOD).status == 200
        over.set()
        for one in drips:
            one.join()
        ended, _, _ = select.select(slow, [], [], 20)
        assert b"came too slowly" in read_to_its_end(ended[0])


def test_a_slow_body_that_keeps_nobody_waiting_is_read_to_its_end(small_room, monkeypatch):
    monkeypatch.setattr(calls, "SILENT_S", 0.2)
    with socket.create_connection(("127.0.0.1", small_room.port), timeout=20) as connection:
        body = b'{"instances": [1.0]}'
        connection.sendall(HEAD % len(body) + body[:5])
        time.sleep(1)
        connection.sendall(body[5:])
        assert b'{"predictions":[2.5]}' in read_to_its_end(connection)


def test_ten_callers_with_more_than_fits_are_all_answered(small_room):
    body = b'{"instances": [1.0]}' + b" " * (LARGEST - 100)
    statuses: list[int] = []
    callers = [
        threading.Thread(target=lambda: statuses.append(small_room.predict(body).status))
        for _ in range(10)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert statuses == [200] * 10
