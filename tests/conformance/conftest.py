"""Fixtures of one suite for two servers: ours, or a real tensorflow_model_server.

    IMGPIPE_CONFORMANCE_TARGET=/usr/bin/tensorflow_model_server pytest tests/conformance

Without the variable the suite starts `imgpipe serve`. Either server is started with the
flags of TensorFlow Serving, called with the official stubs, and stopped.
"""

import os
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import grpc
import pytest

from tests.ports import free_port
from tests.serving.quick import ask

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

TARGET = "IMGPIPE_CONFORMANCE_TARGET"
READY_S = 90.0
AT_ONCE = 3  # servers at the same time; each takes about 500 MB


def command() -> list[str]:
    """Return the command that starts the server under test."""
    if TARGET in os.environ:
        return shlex.split(os.environ[TARGET])
    return [sys.executable, "-m", "imgpipe", "serve"]


@cache
def offers(flag: str) -> bool:
    """Return whether the server under test has a flag."""
    wide = os.environ | {"COLUMNS": "300"}  # where no name is cut off
    done = subprocess.run(
        [*command(), "--help"], capture_output=True, text=True, check=False, env=wide
    )
    return f"--{flag}" in done.stdout + done.stderr


@dataclass
class Running:
    """A server that has been started, with its addresses and its log."""

    process: subprocess.Popen
    grpc: str
    rest: str
    log: Path

    def stub(self):
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        return prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(self.grpc))

    def models(self):
        from tensorflow_serving.apis import model_service_pb2_grpc

        return model_service_pb2_grpc.ModelServiceStub(grpc.insecure_channel(self.grpc))

    def get(self, path: str, body: bytes | None = None) -> bytes:
        """Return the body of a REST answer, whatever its status."""
        request = urllib.request.Request(f"http://{self.rest}{path}", data=body)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.read()


def start(log: Path, *flags: str, rest: bool = False) -> Running:
    """Start the server under test; with `rest` it also gets a REST port."""
    port, rest_port = free_port(), free_port()
    arguments = [*command(), f"--port={port}", "--model_name=default", *flags]
    if rest:
        arguments += [f"--rest_api_port={rest_port}", "--rest_api_timeout_in_ms=20000"]
    with log.open("wb") as file:
        process = subprocess.Popen(arguments, stdout=file, stderr=subprocess.STDOUT)
    return Running(process, f"127.0.0.1:{port}", f"127.0.0.1:{rest_port}", log)


def wait_ready(server: Running) -> None:
    """Wait until a request for a model that does not exist is answered with NOT_FOUND.

    TensorFlow Serving's own test waits in the same way.
    """
    end = time.monotonic() + READY_S
    while server.process.poll() is None and time.monotonic() < end:
        try:
            server.stub().Predict(ask(model="intentionally_missing_model"), timeout=5)
        except grpc.RpcError as error:
            if "Servable" in (error.details() or ""):
                return
        time.sleep(0.1)
    raise AssertionError(f"the server is not ready:\n{server.log.read_text()[-3000:]}")


def stop(server: Running) -> None:
    """Terminate the server, and kill it if it does not end within 20 s."""
    server.process.terminate()
    try:
        server.process.wait(20)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait(20)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that makes a model of `models.py` and returns its base path.

    Each model is made only once.
    """
    from tests.conformance import models

    made = models.half_plus_two(tmp_path_factory.mktemp("two"))
    return lambda name: made


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """Return a function that starts a server with flags and returns it.

    Calls with the same flags share a server, as in TensorFlow Serving's own test.
    """
    running: dict[tuple, Running] = {}

    def get(*flags: str, ready: bool = True, rest: bool = False) -> Running:
        if rest and not offers("rest_api_port"):
            pytest.skip("the server under test has no REST interface (--rest_api_port)")
        key = (*flags, rest)
        if key not in running:
            while len(running) >= AT_ONCE:
                stop(running.pop(next(iter(running))))
            log = tmp_path_factory.mktemp("log") / "server.log"
            running[key] = start(log, *flags, rest=rest)
            if ready:
                wait_ready(running[key])
        running[key] = running.pop(key)  # the least recently used server is stopped first
        return running[key]

    yield get
    for server in running.values():
        stop(server)
