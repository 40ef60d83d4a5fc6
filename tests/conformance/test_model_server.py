"""The behaviours of TensorFlow Serving's own tensorflow_model_server_test.py that are served here.

A name in a docstring is that of the upstream test to which the test here corresponds. The module
`conftest` describes how to run the suite against a real server.
"""

import json
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from .models import VERSION

pytestmark = pytest.mark.slow  # it starts a process for each set of flags


def ask(
    target: str,
    expected: float,
    *,
    model: str = "default",
    only_y: bool = True,
) -> None:
    """Predict x = 2.0 as upstream does, and check the output.

    The input has typed values; the output must have typed values and the reply a complete model
    spec.
    """
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.inputs["x"].dtype = 1
    request.inputs["x"].float_val.append(2.0)
    request.inputs["x"].tensor_shape.dim.add().size = 1
    if only_y:
        request.output_filter.append("y")
    with grpc.insecure_channel(target) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        reply = stub.Predict(request, timeout=20)
    assert reply.outputs["y"].dtype == 1
    assert list(reply.outputs["y"].float_val) == [expected]
    spec = reply.model_spec
    assert (spec.name, spec.signature_name) == (model, "serving_default")
    assert spec.version.value == VERSION


def test_get_model_status(model, serve):
    """testGetModelStatus"""
    server = serve(f"--model_base_path={model('two')}")
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "default"
    (line,) = server.models().GetModelStatus(request, timeout=20).model_version_status
    assert (line.version, line.state, line.status.error_code) == (VERSION, 30, 0)
    assert line.status.error_message == ""


def test_get_model_metadata(model, serve):
    """testGetModelMetadata"""
    server = serve(f"--model_base_path={model('two')}")
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "default"
    reply = server.stub().GetModelMetadata(request, timeout=20)
    assert (reply.model_spec.name, reply.model_spec.version.value) == ("default", VERSION)
    assert list(reply.metadata) == ["signature_def"]
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert reply.metadata["signature_def"].Unpack(signatures)
    found = signatures.signature_def
    assert {"serving_default", "classify_x_to_y"} <= set(found)


def test_predict_saved_model(model, serve):
    """testPredictSavedModel, and an unmodified client with make_tensor_proto and make_ndarray."""
    server = serve(f"--model_base_path={model('two')}")
    ask(server.grpc, 3.0)
    ask(server.grpc, 3.0, only_y=False)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "default"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.float32([2.0, 3.0, 4.0])))
    reply = server.stub().Predict(request, timeout=20)
    np.testing.assert_array_equal(tf.make_ndarray(reply.outputs["y"]), [3.0, 3.5, 4.0])


def test_a_model_that_is_not_a_saved_model_is_not_served(tmp_path, serve):
    """_TestBadModel: a model that is not a SavedModel is never answered."""
    (tmp_path / "123").mkdir()
    (tmp_path / "123" / "saved_model.pb").write_bytes(b"this is no graph")
    server = serve(f"--model_base_path={tmp_path}", ready=False)
    codes = r"StatusCode\.(UNAVAILABLE|NOT_FOUND|FAILED_PRECONDITION)"
    for _ in range(10):
        with pytest.raises(grpc.RpcError, match=codes):
            ask(server.grpc, 3.0)
        time.sleep(0.2)


@pytest.fixture
def rest_server(model, serve):
    """Serve half_plus_two with a REST port."""
    return serve(f"--model_base_path={model('two')}", rest=True)


@pytest.mark.parametrize(
    ("asked", "answered"), [("instances", "predictions"), ("inputs", "outputs")]
)
def test_predict_rest(rest_server, asked, answered):
    """testPredictREST, testPredictColumnarREST"""
    body = json.dumps({asked: [2.0, 3.0, 4.0]}).encode()
    reply = json.loads(rest_server.get("/v1/models/default:predict", body))
    assert reply == {answered: [3.0, 3.5, 4.0]}


def test_get_status_rest(rest_server):
    """testGetStatusREST"""
    status = {"error_code": "OK", "error_message": ""}
    line = {"version": str(VERSION), "state": "AVAILABLE", "status": status}
    assert json.loads(rest_server.get("/v1/models/default")) == {"model_version_status": [line]}


def test_get_model_metadata_rest(rest_server):
    """testGetModelMetadataREST"""
    found = json.loads(rest_server.get("/v1/models/default/metadata"))
    spec = {"name": "default", "signature_name": "", "version": str(VERSION)}
    assert found["model_spec"] == spec
    signature = found["metadata"]["signature_def"]["signature_def"]["classify_x_to_y"]
    assert signature["inputs"]["inputs"]["dtype"] == "DT_STRING"
    assert signature["method_name"] == "tensorflow/serving/predict"


def test_prometheus_endpoint(rest_server):
    """testPrometheusEndpoint"""
    assert b"# TYPE" in rest_server.get("/monitoring/prometheus/metrics")
