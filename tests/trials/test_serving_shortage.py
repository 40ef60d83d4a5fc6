"""Files and memory are taken away from a running server: it says so, and goes on with them back.

Threads and the disk are in `tests/serving/server`, `test_limits` and `test_request_log`.
"""

import contextlib
import http.client
import resource
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.serving.conftest import write_half_plus_two

from .serving_program import MEGABYTE, Program, served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(170)]
GOOD = b'{"instances": [2.0]}'
LARGE = GOOD + b" " * (40 * MEGABYTE)


@pytest.fixture
def server(tmp_path):
    """Serve half_plus_two as `m`, with its REST port."""
    with served(tmp_path, write_half_plus_two, "--rest_api_port=-1") as running:
        yield running


@contextlib.contextmanager
def limited(server: Program, kind: int, most: int) -> Iterator[None]:
    before = resource.prlimit(server.process.pid, kind)
    resource.prlimit(server.process.pid, kind, (most, before[1]))
    try:
        yield
    finally:
        resource.prlimit(server.process.pid, kind, before)


def connected(server: Program) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", server.rest_port(), timeout=60)


def ask(connection: http.client.HTTPConnection, body: bytes = GOOD) -> tuple[int, bytes]:
    connection.request("POST", "/v1/models/m:predict", body)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_without_files_open_connections_are_answered_and_new_ones_wait(server, tmp_path):
    with (
        contextlib.closing(connected(server)) as before,
        contextlib.closing(connected(server)) as new,
    ):
        assert ask(before)[0] == 200
        with limited(server, resource.RLIMIT_NOFILE, server.handles()[1]):
            new.connect()
            new.request("POST", "/v1/models/m:predict", GOOD)
            for _ in range(3):
                assert ask(before)[0] == 200
                time.sleep(1)
        assert new.getresponse().status == 200
    assert (tmp_path / "log").read_text().count("Too many open files") <= 2, (
        "of the port, and of the poll"
    )


def test_without_memory_a_request_is_refused_and_the_next_one_answered(server, tmp_path):
    """Where memory is missing for what has arrived, the connection ends in place of an answer."""
    used = psutil.Process(server.process.pid).memory_info().vms
    refused = []
    for more in range(0, 130, 10):  # so that it is missing at several places
        with (
            limited(server, resource.RLIMIT_AS, used + more * MEGABYTE),
            contextlib.closing(connected(server)) as connection,
            contextlib.suppress(ConnectionError),
        ):
            status, said = ask(connection, LARGE)
            if status != 200:
                refused.append((status, b"lacks memory" in said))
    assert set(refused) == {(503, True)}
    with contextlib.closing(connected(server)) as connection:
        assert ask(connection, LARGE)[0] == 200
    assert (tmp_path / "log").read_text().count("the machine lacks something") == 1
