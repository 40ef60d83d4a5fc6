"""Classify, Regress and MultiInference: valid requests, and messages of refused ones."""

from __future__ import annotations

import grpc
import pytest
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from imgpipe.serving import tensors
from imgpipe.serving.server import ModelServer
from imgpipe.serving.server.core import CoreOptions
from imgpipe.serving.server.requests.handle import Handle
from imgpipe.serving.server.requests.limits import Limits
from imgpipe.serving.server.server import ServerOptions
from imgpipe.serving.server.status import StatusError

Code = grpc.StatusCode
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


def write_model(directory) -> None:
    """Write a model with valid signatures and one signature for each kind of error."""
    import tensorflow as tf

    module = tf.Module()
    module.names = tf.Variable([b"no", b"yes"])
    spec = tf.TensorSpec([None], tf.string, name="inputs")

    def x(inputs):
        return tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([], tf.float32)})["x"]

    def scores(inputs):
        return tf.stack([1 - x(inputs), x(inputs)], axis=1)

    def classes(inputs):
        return tf.tile(module.names[None], [tf.size(inputs), 1])

    bodies = {
        "serving_default": lambda i: {"classes": classes(i), "scores": scores(i)},
        "labels": lambda i: {"classes": classes(i)},
        "raw": lambda i: {
            "classes": tf.tile(tf.constant([[b"\xff\x00", b"yes"]]), [tf.size(i), 1])
        },
        "flat": lambda i: {"scores": x(i)},
        "short": lambda i: {"scores": scores(i)[:1]},
        "whole": lambda i: {"scores": tf.cast(scores(i), tf.int64)},
        "uneven": lambda i: {"classes": classes(i)[:, :1], "scores": scores(i)},
        "three": lambda i: {"a": x(i), "b": x(i), "c": x(i)},
        "other": lambda i: {"a": x(i)},
        "value": lambda i: {"outputs": 2 * x(i)},
        "column": lambda i: {"outputs": 2 * x(i)[:, None]},
        "matrix": lambda i: {"outputs": scores(i)},
        "first": lambda i: {"outputs": x(i)[:1]},
        "double": lambda i: {"outputs": tf.cast(x(i), tf.float64)},
    }
    functions = {key: tf.function(body, input_signature=[spec]) for key, body in bodies.items()}
    wrong = tf.TensorSpec([None], tf.string, name="examples")
    functions["input"] = tf.function(
        lambda examples: {"scores": scores(examples)}, input_signature=[wrong]
    )
    functions["inputs2"] = tf.function(
        lambda inputs, more: {"scores": scores(inputs), "classes": classes(more)},
        input_signature=[spec, tf.TensorSpec([None], tf.string, name="more")],
    )
    tf.saved_model.save(module, str(directory), signatures=functions)


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    """Return stubs of two servers, by whether the server checks the method name."""
    base = tmp_path_factory.mktemp("examples")
    write_model(base / "5")
    checked = ServerOptions(core=CoreOptions(check_method_name=True))
    with ModelServer("m", base) as plain, ModelServer("m", base, options=checked) as strict:
        for server in (plain, strict):
            server.wait_until_available(60)
        with (
            grpc.insecure_channel(plain.target) as first,
            grpc.insecure_channel(strict.target) as second,
        ):
            make = prediction_service_pb2_grpc.PredictionServiceStub
            yield {False: make(first), True: make(second)}


def fill(request, signature: str, values=(0.25, 1.0)):
    """Set model and signature of a request and add an example for each value of x."""
    request.model_spec.name = "m"
    request.model_spec.signature_name = signature
    return examples(request, values)


def examples(request, values):
    """Add an example for each value of x."""
    for value in values:
        features = request.input.example_list.examples.add().features
        features.feature["x"].float_list.value.append(value)
    return request


def classify(signature="", values=(0.25, 1.0)):
    return fill(classification_pb2.ClassificationRequest(), signature, values)


def regress(signature="", values=(0.25, 1.0)):
    return fill(regression_pb2.RegressionRequest(), signature, values)


def refusal(call, request):
    """Return code and message of the RpcError that a call raises."""
    with pytest.raises(grpc.RpcError) as error:  # noqa: PT011 - the caller checks the message
        call(request, timeout=20)
    return error.value.code(), error.value.details()


def rows(reply) -> list:
    """Return label and score of each class for each example of a reply."""
    found = reply.result.classifications
    return [[(one.label, one.score) for one in row.classes] for row in found]


def test_classify(stubs):
    reply = stubs[False].Classify(classify(), timeout=20)
    assert rows(reply) == [[("no", 0.75), ("yes", 0.25)], [("no", 0), ("yes", 1)]]
    spec = reply.model_spec
    assert (spec.name, spec.signature_name, spec.version.value) == ("m", "serving_default", 5)
    labels = stubs[False].Classify(classify("labels", [1]), timeout=20)
    assert rows(labels) == [[("no", 0), ("yes", 0)]]


def test_labels_that_are_not_utf8_are_base64(stubs):
    reply = stubs[False].Classify(classify("raw"), timeout=20)
    (first, _) = reply.result.classifications
    assert [one.label for one in first.classes] == ['{"b64": "/wA="}', "yes"]


def test_the_context_is_merged_into_every_example(stubs):
    request = classify(values=())
    listed = request.input.example_list_with_context
    listed.context.features.feature["x"].float_list.value.append(0.5)
    listed.examples.add()
    own = listed.examples.add().features.feature["x"]
    own.float_list.value.append(1)
    found = rows(stubs[False].Classify(request, timeout=20))
    assert found == [[("no", 0.5), ("yes", 0.5)], [("no", 0), ("yes", 1)]]


@pytest.mark.parametrize("signature", ["value", "column"])
def test_regress(stubs, signature):
    reply = stubs[False].Regress(regress(signature), timeout=20)
    assert [row.value for row in reply.result.regressions] == [0.5, 2.0]


REFUSED = {
    "no signature": ("nope", "No signature was found with the name: nope"),
    "flat": ("flat", "Expected Tensor shape: [batch_size num_classes] but got [2]"),
    "short": ("short", "Expected scores output batch size of 2. Got: 1"),
    "whole": ("whole", "Expected scores Tensor of DT_FLOAT. Got: DT_INT64"),
    "uneven": ("uneven", "should match in dim_size(1). Got 1 vs. 2"),
    "three": ("three", "Expected one or two output Tensors, found 3"),
    "inputs": ("inputs2", "Expected one input Tensor."),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_classifications(stubs, name):
    signature, words = REFUSED[name]
    code, message = refusal(stubs[False].Classify, classify(signature))
    assert code is Code.INVALID_ARGUMENT and words in message


@pytest.mark.parametrize(
    ("signature", "words"),
    [
        ("input", "No classification inputs found in SignatureDef: "),
        ("other", "Expected classification signature outputs to contain at least one of"),
    ],
)
def test_signatures_for_another_method_are_refused(stubs, signature, words):
    code, message = refusal(stubs[False].Classify, classify(signature))
    assert code is Code.FAILED_PRECONDITION and words in message


@pytest.mark.parametrize(
    ("signature", "words"),
    [
        ("matrix", "Expected output Tensor shape to be either [batch_size] or [batch_size, 1]"),
        ("first", "Input batch size did not match output batch size: 2 vs. 1"),
        ("double", "Expected output Tensor of DT_FLOAT.  Got: DT_DOUBLE"),
        ("serving_default", "Expected one output Tensor."),
        ("nope", "No signature was found with the name: nope"),
    ],
)
def test_refused_regressions(stubs, signature, words):
    code, message = refusal(stubs[False].Regress, regress(signature))
    assert code is Code.INVALID_ARGUMENT and words in message


def test_requests_without_examples_are_refused(stubs):
    for call, request in (
        (stubs[False].Classify, classify(values=())),
        (stubs[False].Regress, regress("value", ())),
    ):
        assert refusal(call, request) == (Code.INVALID_ARGUMENT, "Input is empty.")


@pytest.mark.parametrize("timeout", [None, 20])
def test_bytes_that_are_no_examples_are_refused(stubs, timeout):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    tensors.fill_compact(request.inputs["inputs"], [b"\xff\xfe"])
    with pytest.raises(grpc.RpcError, match="Could not parse example input, value") as error:
        stubs[False].Predict(request, timeout=timeout)
    assert error.value.code() is Code.INVALID_ARGUMENT


def test_examples_with_too_many_bytes_are_refused():
    handle = Handle("m", 1, runtime=None, limits=Limits(max_tensor_bytes=100))
    with pytest.raises(StatusError, match=r"Input inputs has \d+ bytes; 100 are allowed"):
        handle.infer([], classify(values=range(100)).input)


def test_the_method_name_is_checked_if_the_option_is_set(stubs):
    code, message = refusal(stubs[True].Classify, classify())
    assert code is Code.INVALID_ARGUMENT
    assert f"Expected classification signature method_name to be {CLASSIFY}. Was: " in message


def multi(*tasks):
    """Return a MultiInferenceRequest; each task is (signature, method[, model])."""
    request = inference_pb2.MultiInferenceRequest()
    for signature, method, *name in tasks:
        task = request.tasks.add(method_name=method)
        task.model_spec.name = name[0] if name else "m"
        task.model_spec.signature_name = signature
    return examples(request, [0.25])


def test_multi_inference(stubs):
    reply = stubs[False].MultiInference(multi(("value", REGRESS), ("", CLASSIFY)), timeout=20)
    first, second = reply.results
    assert first.regression_result.regressions[0].value == 0.5
    assert second.classification_result.classifications[0].classes[1].score == 0.25
    assert second.model_spec.signature_name == "serving_default"
    assert second.model_spec.version.value == 5


@pytest.mark.parametrize(
    ("tasks", "code", "words"),
    [
        ([("", CLASSIFY, "")], Code.INVALID_ARGUMENT, "ModelSpec with an empty model name"),
        (
            [("", CLASSIFY), ("value", REGRESS, "n")],
            Code.INVALID_ARGUMENT,
            "must access the same model name",
        ),
        (
            [("", CLASSIFY), ("serving_default", CLASSIFY)],
            Code.INVALID_ARGUMENT,
            "Duplicate evaluation of signature: serving_default",
        ),
        (
            [("", "tensorflow/serving/predict")],
            Code.UNIMPLEMENTED,
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
        (
            [("nope", CLASSIFY)],
            Code.INVALID_ARGUMENT,
            "Requested signature not found in model graph: nope",
        ),
        ([], Code.INVALID_ARGUMENT, "tasks is empty"),
        ([("", CLASSIFY, "cat")], Code.NOT_FOUND, "Latest(cat)"),
    ],
)
def test_refused_multi_inference(stubs, tasks, code, words):
    found, message = refusal(stubs[False].MultiInference, multi(*tasks))
    assert found is code and words in message
