"""Run `imgpipe serve` as a process, and many clients of it at the same time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
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

    def alive(self) -> bool:
        return self.process.poll() is None


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
    """Return a serialized PredictRequest."""
    return ask(signature, **inputs).SerializeToString()


@dataclass
class Tally:
    """Counts of status codes and messages, and the durations of requests by status code."""

    codes: Counter = field(default_factory=Counter)
    messages: Counter = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, code: str, seconds: float, message: str = "") -> None:
        self.codes[code] += 1
        self.seconds.setdefault(code, []).append(seconds)
        if message:
            self.messages[message[:200]] += 1

    def quantile(self, share: float, code: str = "OK") -> float:
        """Return a quantile of the durations, in seconds."""
        return float(np.quantile(self.seconds.get(code, [0.0]), share))


def call(raw, data: bytes, timeout: float, tally: Tally) -> bytes | None:
    """Send one request, record its outcome in `tally`, and return the answer or None."""
    began = time.monotonic()
    try:
        answer = raw(data, timeout=timeout)
    except grpc.RpcError as error:
        tally.add(error.code().name, time.monotonic() - began, error.details())
        return None
    tally.add("OK", time.monotonic() - began)
    return answer


def clients(
    target: str, count: int, work: Callable[[Callable[[bytes, float], bytes | None]], None]
) -> Tally:
    """Run `work(ask)` in `count` threads, each with its own channel.

    Returns the tallies of all threads together; raises the first error of a thread.
    """
    tallies = [Tally() for _ in range(count)]
    failures: list[BaseException] = []

    def one(tally: Tally) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(target, options) as channel:
            raw = channel.unary_unary(PREDICT)
            try:
                work(lambda data, timeout: call(raw, data, timeout, tally))
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=one, args=(tally,)) for tally in tallies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    total = Tally()
    for tally in tallies:
        total.codes.update(tally.codes)
        total.messages.update(tally.messages)
        for code, seconds in tally.seconds.items():
            total.seconds.setdefault(code, []).extend(seconds)
    return total
