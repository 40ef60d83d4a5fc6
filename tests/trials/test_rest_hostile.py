"""The server answers or refuses every HTTP request, and stays up.

The requests are deep JSON (CVE-2025-0649 ends TensorFlow Serving 2.19), JSON bombs, and 1,500
connections that never finish.
"""

import http.client
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.serving.conftest import write_half_plus_two

from .serving_program import Program, program

pytestmark = [pytest.mark.slow, pytest.mark.timeout(170)]
CLIENTS, SLOW = 4, 1_500
MOST_DELAY_S = 0.3
TIMEOUT_S = 3.0
TWO = {"predictions": [2.5, 3.0]}


@dataclass(frozen=True)
class Rest:
    """A server process and its REST port."""

    program: Program
    port: int

    def ask(
        self, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Send one request on a new connection and return status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET" if body is None else "POST", path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def works(self) -> bool:
        """Return whether the server is alive and ready and predicts correctly."""
        good = self.ask("/v1/models/half:predict", b'{"instances": [1, 2]}')
        ready, _ = self.ask("/v1/health/ready")
        return self.program.alive() and ready == 200 and json.loads(good[1]) == TWO


@pytest.fixture(scope="module")
def rest(tmp_path_factory):
    """Return the server that is attacked."""
    with served(tmp_path_factory.mktemp("rest")) as server:
        yield server


@pytest.fixture(scope="module")
def bystander(tmp_path_factory):
    """Return a server that nobody attacks: what delays it too is the machine, which others use."""
    with served(tmp_path_factory.mktemp("bystander")) as server:
        yield server


@contextmanager
def served(base: Path) -> Iterator[Rest]:
    """Serve half_plus_two as `half`."""
    write_half_plus_two(base / "half" / "1")
    flags = [
        "--model_name=half",
        f"--model_base_path={base / 'half'}",
        "--rest_api_port=-1",
        f"--rest_api_timeout_in_ms={TIMEOUT_S * 1000:.0f}",
    ]
    with program(base / "log", *flags) as running:
        made = Rest(running, rest_port(base / "log"))
        end = time.monotonic() + 60
        while made.ask("/v1/health/ready")[0] != 200:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert made.works()
        yield made


def slowest(rest: Rest, bystander: Rest, over: Callable[[], bool]) -> tuple[float, float]:
    """Ask both servers in turn until it is over, and return the longest wait for each."""
    waits: dict[Rest, list[float]] = {rest: [], bystander: []}
    while not over():
        for server, times in waits.items():
            began = time.monotonic()
            assert server.works()
            times.append(time.monotonic() - began)
    attacked, other = (max(times) for times in waits.values())
    print(f"slowest {attacked:.3f} s of {len(waits[rest])}, without an attack {other:.3f} s")
    return attacked, other


def rest_port(log: Path) -> int:
    """Return the REST port that the log names."""
    match = re.search(r"REST interface on http://127\.0\.0\.1:(\d+)", log.read_text())
    assert match, log.read_text()
    return int(match[1])


def test_deep_json_is_refused(rest):
    longest = 0.0
    for levels in (1_100, 50_000, 5_000_000):
        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
            for body in (
                b'{"instances": ' + opening * levels + b"1" + closing * levels + b"}",
                opening * levels,
            ):
                began = time.monotonic()
                status, answer = rest.ask("/v1/models/half:predict", body)
                longest = max(longest, time.monotonic() - began)
                assert status in (400, 413), answer
    assert longest < TIMEOUT_S * 2
    assert rest.works()


def test_bombs_end_nothing(rest, bystander):
    """The largest allowed bodies of numbers, and larger ones, from four clients at once.

    How long others wait for the interpreter lock meanwhile is printed, and not promised.
    """
    bombs = [
        b'{"instances": [' + b"0.1234567," * 449_000 + b"1]}",
        b'{"instances": [' + b"1," * 10_000_000 + b"1]}",
        b'{"inputs": [' + b'"", ' * 440_000 + b'"' + b"x" * (20 << 20) + b'"]}',
    ]
    with ThreadPoolExecutor(CLIENTS) as pool:
        asked = [pool.submit(rest.ask, "/v1/models/half:predict", bomb) for bomb in bombs * 12]
        slowest(rest, bystander, lambda: all(one.done() for one in asked))
    assert {one.result()[0] for one in asked} <= {200, 400, 413}
    assert rest.works()


def test_connections_that_never_finish_hold_up_nobody(rest, bystander):
    """Those with a request end by its time; others stay, without a request, up to their number."""
    threads_before, fds_before = rest.program.handles()
    head = b"POST /v1/models/half:predict HTTP/1.1\r\nHost: localhost\r\n"
    starts = [b"", b"P", head, head + b"Content-Length: 99\r\n\r\n{"]
    slow = [socket.create_connection(("127.0.0.1", rest.port), timeout=30) for _ in range(SLOW)]
    try:
        for number, connection in enumerate(slow):
            connection.sendall(starts[number % len(starts)])
        rounds = iter(range(40))
        attacked, other = slowest(rest, bystander, lambda: next(rounds, None) is None)
        assert attacked - other < MOST_DELAY_S
        assert slow[3].recv(65536).startswith(b"HTTP/1.1 408")
    finally:
        for connection in slow:
            connection.close()
    time.sleep(1)
    threads, fds = rest.program.handles()
    assert threads <= threads_before + 2 and fds <= fds_before + 5
    assert rest.works()
