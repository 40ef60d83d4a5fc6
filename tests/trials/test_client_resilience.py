"""A server is restarted again and again while clients call it."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from imgpipe.serving.client import Client
from tests.ports import free_port
from tests.serving.conftest import write_half_plus_two

pytestmark = [pytest.mark.slow, pytest.mark.timeout(290)]

CALLS = 10_000
RESTARTS = 20
CALLERS = 8
DEADLINE_S = 60.0
"""Longer than a restart takes on a busy machine, because a call may wait for its end."""


_PROGRAM = """
import os, signal, sys
import imgpipe
import tensorflow  # once, not at each restart
from imgpipe.serving.server import server

def start():
    child = os.fork()
    if child:
        return child
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv[1:1] = ["serve"]
    try:
        imgpipe._main()
    finally:
        os._exit(0)

child = start()
print(flush=True)
for line in sys.stdin:
    os.kill(child, int(line))
    os.waitpid(child, 0)
    child = start()
    print(flush=True)
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
"""
"""Keeps one server running; a line of input is the signal with which it is restarted."""


class Server:
    """A server that always has the same port, in a new process after each restart."""

    def __init__(self, base: Path) -> None:
        self.port = free_port()
        flags = ("--model_name=half", f"--model_base_path={base}", f"--port={self.port}")
        self._keeper = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=Path(__file__).parents[2],
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        self._wait()

    def _wait(self) -> None:
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == "\n", "the server's keeper has ended"

    def restart(self, how: int) -> None:
        """End the server with a signal, wait until it has ended, and start the next one."""
        assert self._keeper.stdin is not None
        print(how, file=self._keeper.stdin, flush=True)
        self._wait()

    def end(self) -> None:
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.close()
        self._keeper.wait(60)
        self._keeper.stdout.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Serve half_plus_two as `half`."""
    write_half_plus_two(tmp_path / "1")
    running = Server(tmp_path)
    yield running
    running.end()


def test_no_call_of_ten_thousand_fails_during_twenty_restarts(server: Server) -> None:
    """Every second restart is a kill, which cuts off the requests in progress."""

    def call(number: int) -> bool:
        answer = client.predict({"x": np.float32([number])})
        return answer.outputs["y"].tolist() == [number / 2 + 2]

    between = CALLS // (RESTARTS + 1)
    with (
        Client(f"127.0.0.1:{server.port}", "half", DEADLINE_S, wait_for_ready=True) as client,
        ThreadPoolExecutor(CALLERS) as pool,
    ):
        calls = [pool.submit(call, number) for number in range(CALLS)]
        for restart in range(RESTARTS):
            calls[(restart + 1) * between].result(DEADLINE_S + 30)
            server.restart(signal.SIGKILL if restart % 2 else signal.SIGTERM)
    assert Counter(one.result() for one in calls) == {True: CALLS}
