"""The memory of a server under clients that send the largest bodies, at once and slowly.

The sum is that of docs/security.md, for as many cores as the machine has.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from imgpipe.models.machine.system import processors
from tests.serving.conftest import write_half_plus_two

from .serving_program import MEGABYTE, Program, clients, request, served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(290)]
CLIENTS = 32
LARGEST = 64 * MEGABYTE
ROOM = 1024 * MEGABYTE
GOOD = request(x=[2.0])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Serve half_plus_two as `m`, with its REST port."""
    folder = tmp_path_factory.mktemp("memory")
    with served(folder, write_half_plus_two, "--rest_api_port=-1") as running:
        yield running


@contextlib.contextmanager
def peak(server: Program) -> Iterator[list[int]]:
    """Yield a list to which the largest growth of the memory in the block is appended."""
    before = server.rss()
    found: list[int] = []
    sizes = [before]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            sizes.append(server.rss())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield found
    finally:
        over.set()
        watching.join()
        found.append(max(sizes) - before)
        print(f"{found[0] / MEGABYTE:.0f} MiB more than {before / MEGABYTE:.0f}")


def test_the_largest_bodies_at_once_take_no_more_than_the_sum(server):
    # A model_spec, and a field that no message has.
    large = b"\x0a\x03\x0a\x01m" + b"\x7a" + varint(LARGEST - 100) + bytes(LARGEST - 100)
    with peak(server) as grown:
        found = clients(server.target, CLIENTS, lambda ask: ask(large, 120) and None)
    assert set(found.codes) <= {"INVALID_ARGUMENT", "DEADLINE_EXCEEDED"}, found.messages
    assert found.codes["INVALID_ARGUMENT"] >= CLIENTS // 2
    # On a busy machine gRPC holds them twice: 1.0 GiB were measured on a quiet one, 2.3 on a busy.
    assert grown[0] < 2 * ROOM + 64 * MEGABYTE + processors() * 4 * LARGEST
    assert clients(server.target, 1, lambda ask: ask(GOOD, 20) and None).codes == {"OK": 1}


def varint(number: int) -> bytes:
    """Return the length of a field of protobuf."""
    data = []
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])


def test_slow_bodies_are_bounded_and_end(server):
    """Each sends half of the largest body, and then a byte a second."""
    head = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    half = bytes(LARGEST // 2)
    over = time.monotonic() + 25

    def drip() -> None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", server.rest_port()), timeout=30) as slow,
        ):
            slow.sendall(head % LARGEST + half)
            while time.monotonic() < over:
                slow.sendall(b" ")
                time.sleep(1)

    drips = [threading.Thread(target=drip) for _ in range(CLIENTS)]
    with peak(server) as grown:
        for one in drips:
            one.start()
        time.sleep(3)
        waited = clients(server.target, 1, lambda ask: ask(GOOD, 60) and None)
        for one in drips:
            one.join()
    print(f"another request waited {waited.requests[0][1]:.1f} s")
    assert waited.codes == {"OK": 1}
    assert grown[0] < ROOM + 64 * MEGABYTE
    with grpc.insecure_channel(server.target) as channel:
        grpc.channel_ready_future(channel).result(10)
    assert server.alive()
