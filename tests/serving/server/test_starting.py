"""Until the first load of all models is over, the server answers UNAVAILABLE.

Clients retry this status.
"""

from __future__ import annotations

import json
import shutil
import socket
import time
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from imgpipe.serving.client import Client, NotFound, Unavailable
from imgpipe.serving.server import ModelServer
from imgpipe.serving.server.core import Core
from imgpipe.serving.server.status import StatusError
from imgpipe.serving.server.versions.config import ModelConfig
from imgpipe.serving.server.versions.manager import ModelManager
from imgpipe.serving.server.versions.version import State
from tests.serving.quick import quick

TWO = {"x": np.float32([2.0])}


@pytest.fixture
def serve(tmp_path):
    """Return a function that starts a server with a REST port.

    It has the models ``m`` and ``other``, whose base paths are in tmp_path.
    """
    running = []

    def start():
        models = [ModelConfig(name, tmp_path / name) for name in ("m", "other")]
        server = ModelServer(models=models, settings=quick(rest_api_port=-1))
        server.start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.stop(5)


def ask(server, model):
    """Return the prediction of a model for x = [2.0]; the client does not retry."""
    with Client(server.target, model, attempts=1) as client:
        return client.predict(TWO)


def rest(server, path, body=None):
    """Return status and JSON of a REST answer."""
    request = urllib.request.Request(f"{server.rest_target}/v1/models/{path}", data=body)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def health(server):
    """Return the serving status of the gRPC health service."""
    with grpc.insecure_channel(server.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status


def test_models_are_unavailable_until_every_load_was_attempted(serve, push, tmp_path):
    push("half_plus_two", tmp_path / "m", 1)
    server = serve()
    server.core.models["m"].wait_until_available(30)
    words = r"still loading its models \(other\)"
    for model in ("other", "intentionally_missing_model"):
        with pytest.raises(Unavailable, match=words):
            ask(server, model)
        for path, body in ((f"{model}:predict", b'{"instances": [2.0]}'), (model, None)):
            status, answer = rest(server, path, body)
            assert status == 503 and "still loading its models (other)" in answer["error"]
        assert rest(server, f"{model}/metadata")[0] == 503
    assert health(server) == health_pb2.HealthCheckResponse.NOT_SERVING
    assert ask(server, "m").version == 1, "what is loaded answers at once"
    push("half_plus_three", tmp_path / "other", 1)
    server.wait_until_available(30)
    assert health(server) == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(NotFound, match=r"Servable not found for request: Latest\(nope\)"):
        ask(server, "nope")
    assert rest(server, "nope:predict", b'{"instances": [2.0]}')[0] == 404
    assert rest(server, "nope")[0] == 404


def test_a_model_that_failed_to_load_is_not_found(serve, push, tmp_path):
    for name in ("m", "other"):
        push("half_plus_two", tmp_path / name, 1)
    (tmp_path / "m" / "1" / "saved_model.pb").write_bytes(b"no graph")
    server = serve()
    with pytest.raises(StatusError, match="Version 1 of model m failed to load"):
        server.wait_until_available(30)
    server.core.models["other"].wait_until_available(30)
    with pytest.raises(NotFound, match=r"Latest\(m\)"):
        ask(server, "m")


@pytest.mark.parametrize("removed", ["1", "."])
def test_a_version_that_is_removed_before_its_retry_ends_the_start(
    tmp_path, monkeypatch, eventually, removed
):
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "saved_model.pb").write_bytes(b"no graph")
    polls = []
    poll = ModelManager.poll
    monkeypatch.setattr(ModelManager, "poll", lambda self: (polls.append(self), poll(self)))

    def load(path):
        raise ValueError(f"{path} is no graph")

    pauses = {"file_system_poll_wait_seconds": 0.3, "load_retry_seconds": 0.4}
    core = Core(load, quick(max_load_retries=5, **pauses))
    core.reload([ModelConfig("m", tmp_path / "m")])
    eventually(lambda: [line.state for line in core.models["m"].states()] == [State.LOADING])
    shutil.rmtree(tmp_path / "m" / removed)
    eventually(lambda: not core.starting())
    polls.clear()
    time.sleep(1)
    assert polls.count(core.models["m"]) <= 20, "it waits between two polls"
    core.stop()


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_the_server_listens_on_an_ipv6_address(push, tmp_path, host):
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"this machine has no ::1 ({error})")
    push("half_plus_two", tmp_path / "m", 1)
    with ModelServer("m", tmp_path / "m", quick(host=host, rest_api_port=-1)) as server:
        server.wait_until_available(30)
        assert server.target.startswith("[::1]:")
        assert ask(server, "m").version == 1
        assert rest(server, "m:predict", b'{"instances": [2.0]}') == (200, {"predictions": [3.0]})
