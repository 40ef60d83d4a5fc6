"""Connections of the gRPC port: streams without a request, and stopping the server."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from imgpipe.models.errors import ResourceError
from imgpipe.serving.server import ModelServer
from imgpipe.serving.server.grpc_port import HEALTH_SERVICES, MAX_STREAMS, GrpcPort, Health
from imgpipe.serving.server.settings import DEFAULT_MAX_MESSAGE_BYTES
from tests.serving.quick import quick

PREDICT = "/tensorflow.serving.PredictionService/Predict"


@pytest.fixture
def server(push, tmp_path):
    """Return a running server of model ``m`` with two workers and a queue of four requests."""
    push("half_plus_two", tmp_path / "m", 3)
    server = ModelServer("m", tmp_path / "m", quick(grpc_max_threads=2, max_queued_requests=4))
    server.start()
    server.wait_until_available(60)
    yield server
    server.stop(5)


@asynccontextmanager
async def half_open(target: str, count: int):
    """Open ``count`` streams on one connection that send their headers but never a request."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        calls = [channel.stream_unary(PREDICT)() for _ in range(count)]
        await channel.channel_ready()
        await asyncio.sleep(0.5)
        yield calls
        for call in calls:
            call.cancel()


def predict_request() -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.float32([1, 2])))
    return request


def predict(target: str) -> list[float]:
    """Return the outputs for x = [1, 2] on a new connection."""
    with grpc.insecure_channel(target) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        return list(stub.Predict(predict_request(), timeout=20).outputs["y"].float_val)


def health(target: str, service: str = "") -> int:
    """Return the serving status of the gRPC health service on a new connection."""
    with grpc.insecure_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=20).status


def port() -> GrpcPort:
    """Return a port without services."""
    return GrpcPort([], Health(lambda: True), quick())


def test_health_follows_the_models(push, tmp_path):
    with ModelServer("m", tmp_path / "new", quick()) as server:
        assert {health(server.target, service) for service in HEALTH_SERVICES} == {2}
        push("half_plus_two", tmp_path / "new", 1)
        server.wait_until_available(30)
        assert {health(server.target, service) for service in HEALTH_SERVICES} == {1}
        with pytest.raises(grpc.RpcError, match=r"StatusCode\.NOT_FOUND"):
            health(server.target, "nope")


def test_streams_without_a_request_do_not_block_other_clients(server):
    async def scenario() -> tuple[list[float], int]:
        async with half_open(server.target, MAX_STREAMS + 300) as calls:
            found = await asyncio.to_thread(predict, server.target)
            up = await asyncio.to_thread(health, server.target)
            # The client opened some streams before it learned the limit; the surplus is refused.
            assert sum(not call.done() for call in calls) > MAX_STREAMS // 2
            return found, up

    assert asyncio.run(scenario()) == ([2.5, 3.0], 1)


def test_the_bytes_of_incomplete_requests_of_a_connection_are_limited():
    """The number of streams is limited, and so is the size of a message.

    gRPC does not report a message before it is complete, so incomplete ones cannot be counted.
    """
    assert MAX_STREAMS * DEFAULT_MAX_MESSAGE_BYTES <= 4 << 30


def test_streams_without_a_request_do_not_delay_stop(server):
    async def scenario() -> float:
        async with half_open(server.target, 100):
            began = time.monotonic()
            assert await asyncio.to_thread(server.stop, 200) is True
            return time.monotonic() - began

    assert asyncio.run(scenario()) < 100


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (lambda folder: folder / "missing" / "s", "the folder .*missing does not exist"),
        (lambda folder: folder / ("s" * 200), "longer than 107 bytes"),
        (lambda folder: (folder / "file").write_text("") or folder / "file", "not a socket"),
    ],
)
def test_the_error_says_why_a_unix_socket_cannot_be_used(tmp_path, place, words):
    with pytest.raises(ResourceError, match=words):
        port().listen(f"unix:{place(tmp_path)}")


def test_a_folder_of_a_unix_socket_that_may_not_be_read_is_named(monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(ResourceError, match=r"/secret/s: Permission denied\. Check"):
        port().listen("unix:/secret/s")


def test_a_unix_socket_of_another_server_is_taken_over(push, tmp_path):
    """TensorFlow Serving's own tests start all their servers with one path."""
    push("half_plus_two", tmp_path / "m", 3)
    with tempfile.TemporaryDirectory() as folder:  # its path is shorter than that of tmp_path
        path = f"{folder}/socket"
        for _ in range(2):
            with socket.socket(socket.AF_UNIX) as other:
                other.bind(path)
                other.listen()
                settings = quick(grpc_socket_path=path)
                with ModelServer("m", tmp_path / "m", settings) as server:
                    server.wait_until_available(30)
                    assert server.port == 0, "with a socket, port 0 means none"
                    assert predict(f"unix:{path}") == [2.5, 3.0]
