"""The gRPC health service follows the models and the drain."""

from __future__ import annotations

import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from imgpipe.serving.server import ModelServer
from imgpipe.serving.server.monitoring.health import HEALTH_SERVICES

SERVING, NOT_SERVING = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
)


@pytest.mark.parametrize("service", HEALTH_SERVICES)
def test_health_follows_the_model(push, tmp_path, service, eventually):
    with (
        ModelServer("m", tmp_path, poll_seconds=0.05) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=service)
        assert stub.Check(request, timeout=10).status == NOT_SERVING
        push("half_plus_two", tmp_path, 1)
        server.wait_until_available(30)
        eventually(lambda: stub.Check(request, timeout=10).status == SERVING)


def test_unknown_services_are_not_found(half):
    with (
        grpc.insecure_channel(half) as channel,
        pytest.raises(grpc.RpcError, match=r"StatusCode\.NOT_FOUND"),
    ):
        health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service="nope"), timeout=10
        )


def test_a_health_watch_reports_the_drain_and_ends(push, tmp_path):
    push("half_plus_two", tmp_path, 1)
    server = ModelServer("m", tmp_path, poll_seconds=0.05)
    server.start()
    server.wait_until_available(30)
    with grpc.insecure_channel(server.target) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(), timeout=30
        )
        seen = [next(watch).status]
        while seen[-1] != SERVING:
            seen.append(next(watch).status)
        time.sleep(0.3)  # polls that change nothing are not reported
        began = time.monotonic()
        assert server.stop(200) is True
        assert next(watch).status == NOT_SERVING
        assert next(watch, None) is None  # and the stream has ended
        assert time.monotonic() - began < 100  # an open stream does not delay the drain
