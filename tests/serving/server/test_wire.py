"""Calls with the official stubs get the codes, messages and replies of TensorFlow Serving."""

import functools

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, prediction_service_pb2_grpc

from tests.serving.quick import ask

Code = grpc.StatusCode
X = np.float32([1, 2, 5])
of_half = functools.partial(ask, model="half")


@pytest.fixture(scope="module")
def channel(half):
    with grpc.insecure_channel(half) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def refusal(call, request) -> tuple[Code, str]:
    with pytest.raises(grpc.RpcError) as error:  # noqa: PT011 - the caller checks the message
        call(request, timeout=20)
    return error.value.code(), error.value.details()


NOT_ITS_SHAPE = tf.make_tensor_proto(X)
NOT_ITS_SHAPE.tensor_content = b"abc"

PAIR = {"a": X, "b": np.int64([1, 2, 3])}
REFUSED = [
    (ask(model="cat", x=X), Code.NOT_FOUND, "not found for request: Latest(cat)"),
    (of_half(version=7, x=X), Code.NOT_FOUND, "not found for request: Specific(half, 7)"),
    (of_half(label="l", x=X), Code.INVALID_ARGUMENT, "Unrecognized servable version label: l"),
    (ask(model="", x=X), Code.INVALID_ARGUMENT, "ModelSpec has no name specified."),
    (of_half("cam", x=X), Code.FAILED_PRECONDITION, 'Serving signature key "cam" not found.'),
    (of_half(a=X, b=X), Code.INVALID_ARGUMENT, "Expected: x. Received: a, b."),
    (of_half(x=NOT_ITS_SHAPE), Code.INVALID_ARGUMENT, "tensor parsing error: x"),
    (of_half(x=np.float64([1])), Code.INVALID_ARGUMENT, "x to be float but double is provided"),
    (of_half("pair", a=X, b=X), Code.INVALID_ARGUMENT, "for float: serving_default, slow."),
    (
        of_half("pair", outputs=["sum", "z"], **PAIR),
        Code.INVALID_ARGUMENT,
        "alias not found in signature: z.",
    ),
    (of_half("pair", **PAIR | {"a": X[:2]}), Code.INVALID_ARGUMENT, "Incompatible shapes: ["),
]


@pytest.mark.parametrize(("request_message", "code", "words"), REFUSED)
def test_refused_predictions(stub, request_message, code, words):
    found, message = refusal(stub.Predict, request_message)
    assert (found, words in message) == (code, True), message
    assert "{{node" not in message and "\n" not in message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([b"\x89PNG\r\n\x1a\n" + b"\x00" * 50], "the PNG file is cut short"),
        (np.float32([1]), "be string but float is provided. Send image_bytes as string."),
    ],
)
def test_what_is_no_image_is_refused_in_the_words_of_the_look(images, data, words):
    with grpc.insecure_channel(images) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        code, message = refusal(stub.Predict, ask(model="imgpipe", image_bytes=data))
    assert code is Code.INVALID_ARGUMENT and words in message


@pytest.mark.parametrize(
    "method",
    [
        "tensorflow.serving.PredictionService/Classify",
        "tensorflow.serving.PredictionService/Regress",
        "tensorflow.serving.PredictionService/MultiInference",
        "inference.GRPCInferenceService/ModelInfer",
        "tensorflow.serving.ModelService/HandleReloadConfigRequest",
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ],
)
def test_methods_of_other_servers_are_refused_with_the_one_that_answers(channel, method):
    code, message = refusal(channel.unary_unary(f"/{method}"), b"")
    assert code is Code.UNIMPLEMENTED
    assert (
        "does not answer this method. Ask tensorflow.serving.PredictionService/Predict" in message
    )


def test_the_output_filter_selects_outputs(stub):
    everything = stub.Predict(of_half("pair", **PAIR), timeout=20)
    assert set(everything.outputs) == {"sum", "count", "same"}
    assert everything.model_spec.signature_name == "pair"
    some = stub.Predict(of_half("pair", outputs=["count"], version=123, **PAIR), timeout=20)
    assert set(some.outputs) == {"count"}
    assert list(some.outputs["count"].int_val) == [3]


@pytest.mark.parametrize(
    ("fields", "model", "code", "words"),
    [
        ([], "half", Code.INVALID_ARGUMENT, "has one metadata_field, signature_def"),
        (["weights"], "half", Code.INVALID_ARGUMENT, "Received: ['weights']"),
        (["signature_def"], "cat", Code.NOT_FOUND, "Latest(cat)"),
    ],
)
def test_refused_metadata(stub, fields, model, code, words):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = model
    found, message = refusal(stub.GetModelMetadata, request)
    assert found is code and words in message


def test_long_messages_are_cut_at_1024_bytes(stub):
    code, message = refusal(stub.Predict, of_half("ü" * 2000, x=X))
    assert code is Code.FAILED_PRECONDITION
    assert message.endswith("...TRUNCATED")
    assert len(message.removesuffix("...TRUNCATED").encode()) <= 1024


def test_invalid_bytes_are_refused_and_the_server_stays_alive(channel, stub):
    raw = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    code, message = refusal(raw, b"\xff\xff\xff not a protobuf")
    assert code is Code.INVALID_ARGUMENT and "is not the message of this method" in message
    with pytest.raises(grpc.RpcError, match=r"StatusCode\.UNIMPLEMENTED"):
        channel.unary_unary("/tensorflow.serving.PredictionService/Nope")(b"", timeout=20)
    assert stub.Predict(of_half(x=X), timeout=20).model_spec.version.value == 123
