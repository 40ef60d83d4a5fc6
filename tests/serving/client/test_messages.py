"""Requests equal those of the official stubs byte for byte.

Replies are read in both encodings of tensors: typed fields and tensor_content.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from imgpipe.serving.client import channel, messages
from imgpipe.serving.client.errors import InvalidArgument, ServingError
from imgpipe.serving.client.messages import Prediction
from tests import python_program
from tests.conftest import REPOSITORY
from tests.serving.quick import ask


@pytest.mark.parametrize("version", [None, 0, 7, 1_790_000_000])
@pytest.mark.parametrize(
    ("inputs", "signature_name", "output_filter"),
    [
        ({"image_bytes": [b"\xff\xd8 a", b"b"]}, "", ()),
        ({"pixels": np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)}, "serving_pixels", ()),
        ({"b": np.float32([[1, 2]]), "a": np.int64(3), "c": ["x"]}, "pair", ("y", "x")),
        ({}, "", ()),
    ],
)
def test_predict_requests_equal_those_of_the_official_stubs(
    version, inputs, signature_name, output_filter
):
    ours = messages.predict_request("imgpipe", inputs, signature_name, output_filter, version)
    theirs = ask(signature_name, "imgpipe", output_filter, version, **inputs)
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(
        deterministic=True
    )


@pytest.mark.parametrize("as_content", [False, True])
def test_replies_are_read_in_both_encodings(as_content):
    array = np.float32([[1.5, -2.0], [np.inf, 0.0]])
    reply = predict_pb2.PredictResponse()
    if as_content:
        reply.outputs["y"].CopyFrom(tf.make_tensor_proto(array))
    else:
        reply.outputs["y"].dtype = 1
        for size in array.shape:
            reply.outputs["y"].tensor_shape.dim.add(size=size)
        reply.outputs["y"].float_val.extend(array.ravel().tolist())
    assert bool(reply.outputs["y"].tensor_content) == as_content
    reply.outputs["s"].CopyFrom(tf.make_tensor_proto([b"a", b"b"]))
    reply.model_spec.version.value = 4
    read = messages.prediction(channel.PredictResponse.FromString(reply.SerializeToString()))
    np.testing.assert_array_equal(read.outputs["y"], array)
    assert read.outputs["s"].tolist() == [b"a", b"b"]
    assert read.version == 4


def test_a_malformed_output_raises_a_serving_error():
    reply = channel.PredictResponse()
    reply.outputs["y"].dtype = 99
    with pytest.raises(ServingError, match="output 'y' is malformed: dtype 99"):
        messages.prediction(reply)


def test_classifications_are_sorted_and_limited_to_top():
    answer = Prediction(
        {
            "classes": np.array([[b"a", "b", "ü".encode()]] * 2, object),
            "probabilities": np.float32([[0.1, 0.7, 0.2], [0.5, 0.5, 0.0]]),
        },
        "m",
        9,
        "serving_default",
    )
    first, second = messages.classifications(answer, 2, top=2, unsure_below=0.0)
    assert (first.label, first.version) == ("b", 9)
    assert [name for name, _ in first.top] == ["b", "ü"]
    assert second.label == "a"  # of equal probabilities the first in the vocabulary wins


def test_an_answer_may_say_that_an_image_is_unlike_and_that_it_is_unsure():
    outputs = {
        "classes": np.array([[b"a", b"b"]] * 2, object),
        "probabilities": np.float32([[0.4, 0.6], [0.1, 0.9]]),
    }
    plain = messages.classifications(Prediction(outputs, "m", 9, ""), 2, 1, 0.0)
    assert [(one.unlike, one.unsure) for one in plain] == [(None, False)] * 2
    outputs["unlike"] = np.array([False, True])
    marked = messages.classifications(Prediction(outputs, "m", 9, ""), 2, 1, 0.81)
    assert [(one.label, one.unlike, one.unsure) for one in marked] == [
        ("b", False, True),
        ("b", True, False),
    ]


@pytest.mark.parametrize(
    "outputs",
    [
        {"y": np.zeros((1, 2))},
        {"classes": np.array([[b"a"]], object), "probabilities": np.zeros((1, 2))},
        {"classes": np.array([b"a"], object), "probabilities": np.zeros(1)},
        {"classes": np.array([[b"a"]] * 3, object), "probabilities": np.zeros((3, 1))},
    ],
)
def test_outputs_that_are_not_classifications_are_refused(outputs):
    with pytest.raises(InvalidArgument, match="expected"):
        messages.classifications(Prediction(outputs, "m", 1, "serving_default"), 1, 5, 0.0)


def test_the_checked_in_descriptors_are_those_of_the_locked_packages(tmp_path):
    program, file = REPOSITORY / "packaging" / "client_protos.py", tmp_path / "protos.binpb"
    python_program.ran(sys.executable, program, file)
    assert file.read_bytes() == Path(channel.__file__).with_name("protos.binpb").read_bytes(), (
        "stale: run python packaging/client_protos.py serving/client/protos.binpb"
    )
