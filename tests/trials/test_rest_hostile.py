"""The server answers or refuses every HTTP request, stays up, and stays small.

The requests are deep JSON (CVE-2025-0649 ends TensorFlow Serving 2.19), JSON bombs, 2,000 mutated
bodies, 2,000 mutated requests on the wire, and 1,500 connections that never finish.
"""

from __future__ import annotations

import base64
import http.client
import json
import random
import re
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.images import encoded, noise
from tests.serving.conftest import write_half_plus_two, write_image_model

from .serving_program import MEGABYTE, Program, program
from .test_serving_inputs import mutated

pytestmark = [pytest.mark.slow, pytest.mark.timeout(170)]
BODIES, WIRES, CLIENTS, SLOW = 2_000, 2_000, 4, 1_500
MOST_DELAY_S = 0.3
TIMEOUT_S = 3.0
TWO = {"predictions": [2.5, 3.0]}
PATIENCE_S = 0.2
"""How long ``send`` waits for an answer before it closes its side of the connection."""
MODELS = """model_config_list {
  config { name: "half" base_path: "BASE/half" model_platform: "tensorflow" }
  config { name: "images" base_path: "BASE/images" model_platform: "tensorflow" }
}"""


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
    """Serve half_plus_two as ``half`` and the image classifier as ``images``."""
    base = tmp_path_factory.mktemp("rest")
    write_half_plus_two(base / "half" / "1")
    write_image_model(base / "images" / "1")
    (base / "models.config").write_text(MODELS.replace("BASE", str(base)))
    flags = [
        f"--model_config_file={base / 'models.config'}",
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


def rest_port(log: Path) -> int:
    """Return the REST port that the log names."""
    match = re.search(r"REST interface on http://127\.0\.0\.1:(\d+)", log.read_text())
    assert match, log.read_text()
    return int(match[1])


class Watch:
    """A context manager that records the largest resident memory of the server, in bytes."""

    def __init__(self, running: Program) -> None:
        self._program, self._over = running, threading.Event()
        self.before = self.most = running.rss()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._over.wait(0.02):
            self.most = max(self.most, self._program.rss())

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def grown(self) -> int:
        """The largest resident memory minus that at the beginning, in bytes."""
        return self.most - self.before


def test_deep_json_is_refused(rest, record_property):
    slowest = 0.0
    for levels in (1_100, 50_000, 5_000_000):
        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
            for body in (
                b'{"instances": ' + opening * levels + b"1" + closing * levels + b"}",
                opening * levels,
            ):
                began = time.monotonic()
                status, answer = rest.ask("/v1/models/half:predict", body)
                slowest = max(slowest, time.monotonic() - began)
                assert status in (400, 413), answer
    record_property("slowest_s", round(slowest, 2))
    assert slowest < TIMEOUT_S * 2
    assert rest.works()


def test_bombs_delay_no_other_request(rest, record_property):
    """The largest allowed bodies of numbers, and larger ones, from four clients at once."""
    bombs = [
        b'{"instances": [' + b"0.1234567," * 249_000 + b"1]}",
        b'{"instances": [' + b"1," * 10_000_000 + b"1]}",
        b'{"inputs": [' + b'"", ' * 240_000 + b'"' + b"x" * (20 << 20) + b'"]}',
    ]
    over = threading.Event()

    def work() -> None:
        for number in range(9):
            rest.ask("/v1/models/half:predict", bombs[number % len(bombs)])

    def bomb() -> None:
        in_threads(work)
        over.set()

    with Watch(rest.program) as watch:
        thread = threading.Thread(target=bomb)
        thread.start()
        times = []
        while not over.is_set():
            began = time.monotonic()
            assert rest.ask("/v1/models/half:predict", b'{"instances": [1, 2]}')[0] == 200
            times.append(time.monotonic() - began)
        thread.join()
    record_property("slowest_s", round(max(times), 3))
    record_property("grown_mib", watch.grown // MEGABYTE)
    print(f"slowest {max(times):.3f} s of {len(times)}, {watch.grown // MEGABYTE} MiB")
    assert max(times) < MOST_DELAY_S
    assert rest.works()


def in_threads(work) -> None:
    """Run ``work()`` in ``CLIENTS`` threads and raise the first error."""
    failures: list[BaseException] = []

    def one() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def good_bodies() -> list[tuple[str, bytes]]:
    """Return valid requests as pairs of path and body."""
    image = {"b64": base64.b64encode(encoded(noise(1), "JPEG")).decode()}
    made = [
        ("half:predict", {"instances": [1.0, 2.5, -3e4]}),
        ("half:predict", {"inputs": {"x": [1, 2, 3]}}),
        ("half:predict", {"signature_name": "pair", "inputs": {"a": [0.5, 1], "b": [3, 4]}}),
        ("half:predict", {"inputs": {"x": [[1.0, 2], [3, 4]]}, "more": [None, True, "\u00e9"]}),
        ("images:predict", {"instances": [image, image]}),
        ("images:predict", {"instances": [{"image_bytes": image}]}),
    ]
    return [(path, json.dumps(body).encode()) for path, body in made]


WORDS = [
    *(b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"NaN", b"-Infinity", b"1e999", b"null"),
    *(b"true", b"\x00", b"\xff", b"\\ud800", b'{"b64": "AA=="}', b"9" * 400, b"[[[[[[[[[["),
]


def changed(rng: random.Random, body: bytes) -> bytes:
    """Return a mutated body.

    Either letters and digits are replaced, which leaves it valid JSON, or bytes are replaced and
    words inserted. A tenth is damaged further by ``mutated``.
    """
    made = bytearray(body)
    if rng.random() < 0.5:
        for place in rng.sample(range(len(made)), rng.choice([1, 4, 16])):
            kinds = [kind for kind in (b"0123456789", b"abcdefXYZ") if made[place] in kind]
            made[place] = rng.choice(kinds[0]) if kinds else made[place]
        return bytes(made)
    for _ in range(rng.choice([1, 1, 2, 8])):
        place = rng.randrange(len(made) + 1)
        if rng.random() < 0.5:
            made[place:place] = rng.choice(WORDS)
        else:
            made[place : place + rng.choice([1, 1, 4])] = rng.randbytes(rng.choice([0, 1, 4]))
    return bytes(made) if rng.random() < 0.9 else mutated(rng, bytes(made))


def test_mutated_bodies_are_answered_or_refused(rest, record_property):
    goods = good_bodies()
    codes: Counter[int] = Counter()
    seeds = iter(range(CLIENTS))
    lock = threading.Lock()

    def work() -> None:
        with lock:
            rng = random.Random(next(seeds))
        for _ in range(BODIES // CLIENTS):
            path, body = rng.choice(goods)
            body = changed(rng, body)
            status, answer = rest.ask(f"/v1/models/{path}", body)
            found = json.loads(answer)
            assert (status == 200) == ("error" not in found), (body, answer)
            with lock:
                codes[status] += 1

    with Watch(rest.program) as watch:
        in_threads(work)
    record_property("codes", dict(codes))
    record_property("grown_mib", watch.grown // MEGABYTE)
    assert sum(codes.values()) == BODIES
    assert set(codes) <= {200, 400}
    assert watch.grown < 64 * MEGABYTE
    assert rest.works()


def wire(rng: random.Random) -> bytes:
    """Return a whole request as bytes; its head is often malformed."""
    path, body = rng.choice(good_bodies()[:4])
    head = [
        f"POST /v1/models/{path} HTTP/1.1".encode(),
        b"Host: localhost",
        b"Connection: close",
        b"Content-Type: application/json",
        b"Content-Length: " + str(len(body) + rng.choice([0, 0, -3, 5, 10**12])).encode(),
    ]
    what = rng.randrange(6)
    if what == 0:
        head[-1] = b"Transfer-Encoding: chunked"
        size = rng.choice([b"%x" % len(body), b"ffffffff", b"-1", b"zz", b"f" * 30])
        body = size + b"\r\n" + body + b"\r\n0\r\n\r\n"
    elif what == 1:
        head += [
            b"X-%d: %s" % (n, b"v" * rng.choice([1, 100])) for n in range(rng.choice([50, 900]))
        ]
    elif what == 2:
        head[0] = rng.choice(
            [b"GET /v1/models/%00%ff%2e%2e HTTP/1.1", b"POST * HTTP/9.9", b"PRI * HTTP/2.0", b""]
        )
    data = b"\r\n".join(head) + b"\r\n\r\n" + body
    return mutated(rng, data) if what > 3 else data


def test_mutated_requests_on_the_wire_are_answered_or_refused(rest, record_property):
    seeds = iter(range(100, 100 + CLIENTS))
    lock = threading.Lock()
    codes: Counter[str] = Counter()

    def work() -> None:
        with lock:
            rng = random.Random(next(seeds))
        for _ in range(WIRES // CLIENTS):
            answer = send(rest.port, wire(rng))
            code = answer[9:12].decode() if answer.startswith(b"HTTP/1.1 ") else "ended"
            with lock:
                codes[code] += 1

    with Watch(rest.program) as watch:
        in_threads(work)
    record_property("codes", dict(codes))
    record_property("grown_mib", watch.grown // MEGABYTE)
    assert set(codes) <= {"200", "400", "404", "408", "413", "ended"}
    assert codes["200"] > WIRES // 20
    assert watch.grown < 64 * MEGABYTE
    assert rest.works()


def send(port: int, data: bytes) -> bytes:
    """Send one request and return the bytes of the answer.

    If nothing comes within ``PATIENCE_S``, the sending side is closed and the answer awaited.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        found = b""
        try:
            connection.sendall(data)
            while part := connection.recv(65536):
                found += part
        except TimeoutError:
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(30)
            while part := connection.recv(65536):
                found += part
        except (ConnectionResetError, BrokenPipeError):
            pass
        return found


def test_connections_that_never_finish_are_closed(rest, record_property):
    """They delay no other client."""
    threads_before, fds_before = rest.program.handles()
    head = b"POST /v1/models/half:predict HTTP/1.1\r\nHost: h\r\n"
    starts = [b"", b"P", head, head + b"Content-Length: 99\r\n\r\n{"]
    slow = [socket.create_connection(("127.0.0.1", rest.port), timeout=30) for _ in range(SLOW)]
    try:
        for number, connection in enumerate(slow):
            connection.sendall(starts[number % len(starts)])
        times = []
        for _ in range(40):
            began = time.monotonic()
            assert rest.works()
            times.append(time.monotonic() - began)
        print(f"slowest {max(times):.3f} s")
        record_property("slowest_s", round(max(times), 3))
        assert max(times) < MOST_DELAY_S
        end = time.monotonic() + 40
        for connection in slow:
            connection.settimeout(max(end - time.monotonic(), 0.01))
            try:
                while connection.recv(65536):
                    pass
            except ConnectionResetError:
                pass
    finally:
        for connection in slow:
            connection.close()
    time.sleep(1)
    threads, fds = rest.program.handles()
    assert threads <= threads_before + 2 and fds <= fds_before + 5
    assert rest.works()
