"""Run `imgpipe serve` as a process, and many clients of it at the same time."""

import functools
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil

from tests.serving.quick import ask

PREDICT = "/tensorflow.serving.PredictionService/Predict"
MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Program:
    """A server process, the address of its gRPC port, and its psutil.Process."""

    process: subprocess.Popen
    target: str
    ps: psutil.Process

    def rss(self) -> int:
        """Return the resident memory in bytes."""
        return self.ps.memory_info().rss

    def handles(self) -> tuple[int, int]:
        """Return the numbers of threads and of file descriptors."""
        return self.ps.num_threads(), self.ps.num_fds()

    def rest_port(self) -> int:
        """Return the port of HTTP, the other one on which the server listens."""
        ports = {each.laddr.port for each in self.ps.net_connections() if each.status == "LISTEN"}
        [port] = ports - {int(self.target.rpartition(":")[2])}
        return port

    def alive(self) -> bool:
        return self.process.poll() is None


@contextmanager
def served(folder: Path, write: Callable[[Path], Any], *flags: str) -> Iterator[Program]:
    """Serve a model that `write` writes as `m`; at the end `folder`/log has no traceback."""
    write(folder / "m" / "1")
    place = ("--model_name=m", f"--model_base_path={folder / 'm'}")
    with program(folder / "log", *place, *flags) as running:
        yield running
    assert "Traceback" not in (folder / "log").read_text()


@contextmanager
def program(log: Path, *flags: str) -> Iterator[Program]:
    """Start a server on any free port, wait for its model, and kill the server at the end."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "imgpipe", "serve", "--port=0", *flags],
            stderr=file,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"},
        )
    try:
        target = _wait(process, log, r"listening on (\S+)")
        _wait(process, log, r"(is available)")
        yield Program(process, target, psutil.Process(process.pid))
    finally:
        process.kill()
        process.wait(30)


def _wait(process: subprocess.Popen, log: Path, pattern: str) -> str:
    """Return the first group of a pattern once the log matches it; fail after 120 s."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        if match := re.search(pattern, log.read_text(errors="replace")):
            return match[1]
        time.sleep(0.1)
    raise AssertionError(log.read_text(errors="replace")[-3000:])


def request(signature: str = "", **inputs: Any) -> bytes:
    return ask(signature, **inputs).SerializeToString()


@dataclass
class Tally:
    """The status code, the duration in seconds and the message of each request."""

    requests: list[tuple[str, float, str]] = field(default_factory=list)

    @property
    def codes(self) -> Counter[str]:
        return Counter(code for code, _, _ in self.requests)

    @property
    def messages(self) -> Counter[str]:
        return Counter(message[:200] for _, _, message in self.requests if message)

    def quantile(self, share: float) -> float:
        """Return a quantile of the durations of the answered requests."""
        seconds = [duration for code, duration, _ in self.requests if code == "OK"]
        return float(np.quantile(seconds or [0.0], share))

    def ask(self, raw: Callable[..., bytes], data: bytes, timeout: float) -> bytes | None:
        """Send one request, record its outcome, and return the answer or None."""
        began = time.monotonic()
        answer, code, message = None, "OK", ""
        try:
            answer = raw(data, timeout=timeout)
        except grpc.RpcError as error:
            code, message = error.code().name, error.details()
        self.requests.append((code, time.monotonic() - began, message))  # one step for all threads
        return answer


def clients(
    target: str, count: int, work: Callable[[Callable[[bytes, float], bytes | None]], None]
) -> Tally:
    """Run `work(ask)` in `count` threads, each with its own channel, and return all outcomes.

    Raises the first error of a thread.
    """
    tally = Tally()

    def one(_: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(target, options) as channel:
            work(functools.partial(tally.ask, channel.unary_unary(PREDICT)))

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(one, range(count)))
    return tally
