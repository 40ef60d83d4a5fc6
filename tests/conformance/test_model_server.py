"""The behaviours of TensorFlow Serving's own tensorflow_model_server_test.py that are served here.

    IMGPIPE_CONFORMANCE_TARGET=/usr/bin/tensorflow_model_server pytest tests/conformance

Without the variable the tests start `imgpipe serve`. Either server is started with the flags of
TensorFlow Serving and called with the official stubs. A name in a docstring is that of the upstream
test to which the test here corresponds.
"""

import functools
import json
import os
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from tests.ports import free_port
from tests.serving.conftest import write_half_plus_two
from tests.serving.quick import ask

pytestmark = pytest.mark.slow  # it starts processes

VERSION = 123
TARGET = "IMGPIPE_CONFORMANCE_TARGET"
READY_S = 90.0
asked = functools.partial(ask, model="default")


@dataclass
class Running:
    """A server that has been started, and its port of REST."""

    process: subprocess.Popen
    channel: grpc.Channel
    rest_port: int

    @property
    def predictions(self):
        return prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    def rest(self, path: str, body: bytes | None = None) -> bytes:
        url = f"http://127.0.0.1:{self.rest_port}{path}"
        with urllib.request.urlopen(url, body, timeout=20) as answer:
            return answer.read()


@contextmanager
def started(base: Path) -> Iterator[Running]:
    """Start the server under test for the versions in a folder, and stop it in the end."""
    own = shlex.join([sys.executable, "-m", "imgpipe", "serve"])
    port, rest_port = free_port(), free_port()
    flags = ["--model_name=default", f"--model_base_path={base}"]
    ports = [f"--port={port}", f"--rest_api_port={rest_port}", "--rest_api_timeout_in_ms=20000"]
    process = subprocess.Popen([*shlex.split(os.environ.get(TARGET, own)), *flags, *ports])
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            yield Running(process, channel, rest_port)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_ready(server: Running) -> None:
    """Wait until a request for a model that does not exist is answered with NOT_FOUND.

    TensorFlow Serving's own test waits in the same way.
    """
    end = time.monotonic() + READY_S
    while server.process.poll() is None and time.monotonic() < end:
        try:
            server.predictions.Predict(ask(model="intentionally_missing_model"), timeout=5)
        except grpc.RpcError as error:
            if "Servable" in (error.details() or ""):
                return
        time.sleep(0.1)
    raise AssertionError("the server is not ready")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    base = tmp_path_factory.mktemp("two")
    write_half_plus_two(base / f"{VERSION:08d}")  # with leading zeros, as in upstream's test
    with started(base) as server:
        wait_ready(server)
        yield server


def test_get_model_status(server):
    """testGetModelStatus"""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "default"
    models = model_service_pb2_grpc.ModelServiceStub(server.channel)
    (line,) = models.GetModelStatus(request, timeout=20).model_version_status
    assert (line.version, line.state, line.status.error_code) == (VERSION, 30, 0)
    assert line.status.error_message == ""


def test_get_model_metadata(server):
    """testGetModelMetadata"""
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "default"
    reply = server.predictions.GetModelMetadata(request, timeout=20)
    assert (reply.model_spec.name, reply.model_spec.version.value) == ("default", VERSION)
    assert list(reply.metadata) == ["signature_def"]
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert reply.metadata["signature_def"].Unpack(signatures)
    assert {"serving_default", "pair"} <= set(signatures.signature_def)


@pytest.mark.parametrize("outputs", [(), ("y",)])
def test_predict_saved_model(server, outputs):
    """testPredictSavedModel: typed values are answered with typed values."""
    request = asked(outputs=outputs)
    request.inputs["x"].dtype = 1
    request.inputs["x"].float_val.append(2.0)
    request.inputs["x"].tensor_shape.dim.add().size = 1
    reply = server.predictions.Predict(request, timeout=20)
    assert reply.outputs["y"].dtype == 1
    assert list(reply.outputs["y"].float_val) == [3.0]
    spec = reply.model_spec
    assert (spec.name, spec.signature_name) == ("default", "serving_default")
    assert spec.version.value == VERSION


def test_an_unmodified_client_with_packed_tensors(server):
    reply = server.predictions.Predict(asked(x=np.float32([2.0, 3.0, 4.0])), timeout=20)
    np.testing.assert_array_equal(tf.make_ndarray(reply.outputs["y"]), [3.0, 3.5, 4.0])


def test_a_model_that_is_not_a_saved_model_is_not_served(tmp_path):
    """_TestBadModel: a model that is not a SavedModel is never answered."""
    (tmp_path / "123").mkdir()
    (tmp_path / "123" / "saved_model.pb").write_bytes(b"this is no graph")
    codes = r"StatusCode\.(UNAVAILABLE|NOT_FOUND|FAILED_PRECONDITION)"
    with started(tmp_path) as server:
        for _ in range(10):
            with pytest.raises(grpc.RpcError, match=codes):
                server.predictions.Predict(asked(x=np.float32([2.0])), timeout=20)
            time.sleep(0.2)


@pytest.mark.parametrize(
    ("asked", "answered"), [("instances", "predictions"), ("inputs", "outputs")]
)
def test_predict_rest(server, asked, answered):
    """testPredictREST, testPredictColumnarREST"""
    body = json.dumps({asked: [2.0, 3.0, 4.0]}).encode()
    reply = json.loads(server.rest("/v1/models/default:predict", body))
    assert reply == {answered: [3.0, 3.5, 4.0]}


def test_get_status_rest(server):
    """testGetStatusREST"""
    status = {"error_code": "OK", "error_message": ""}
    line = {"version": str(VERSION), "state": "AVAILABLE", "status": status}
    assert json.loads(server.rest("/v1/models/default")) == {"model_version_status": [line]}


def test_get_model_metadata_rest(server):
    """testGetModelMetadataREST"""
    found = json.loads(server.rest("/v1/models/default/metadata"))
    spec = {"name": "default", "signature_name": "", "version": str(VERSION)}
    assert found["model_spec"] == spec
    signature = found["metadata"]["signature_def"]["signature_def"]["pair"]
    assert signature["inputs"]["b"]["dtype"] == "DT_INT64"
    assert signature["method_name"] == "tensorflow/serving/predict"


def test_prometheus_endpoint(server):
    """testPrometheusEndpoint"""
    assert b"# TYPE" in server.rest("/monitoring/prometheus/metrics")
