"""Requests equal those of the official stubs byte for byte.

Replies are read in both encodings of tensors: typed fields and tensor_content.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from imgpipe.serving.client import messages, protos
from imgpipe.serving.client.errors import InvalidArgument, ServingError
from imgpipe.serving.client.messages import Servable
from imgpipe.serving.client.results import Prediction


def official(version, inputs, signature_name, output_filter) -> bytes:
    """Return the serialized PredictRequest that the official stubs build."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "imgpipe"
    if version is not None:
        request.model_spec.version.value = version
    request.model_spec.signature_name = signature_name
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    request.output_filter.extend(output_filter)
    return request.SerializeToString(deterministic=True)


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
    servable = Servable("imgpipe", version)
    ours = messages.predict_request(servable, inputs, signature_name, output_filter)
    assert ours.SerializeToString(deterministic=True) == official(
        version, inputs, signature_name, output_filter
    )


def test_status_and_metadata_requests_equal_the_official_ones():
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "m"
    status.model_spec.version.value = 3
    assert (
        messages.status_request(Servable("m", 3)).SerializeToString() == status.SerializeToString()
    )
    metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = "m"
    assert (
        messages.metadata_request(Servable("m")).SerializeToString() == metadata.SerializeToString()
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
    read = messages.prediction(protos.PredictResponse.FromString(reply.SerializeToString()))
    np.testing.assert_array_equal(read.outputs["y"], array)
    assert read.outputs["s"].tolist() == [b"a", b"b"]
    assert read.version == 4


def test_a_malformed_output_raises_a_serving_error():
    reply = protos.PredictResponse()
    reply.outputs["y"].dtype = 99
    with pytest.raises(ServingError, match="output 'y' is malformed: dtype 99"):
        messages.prediction(reply)


def test_the_error_names_the_invalid_input():
    with pytest.raises(InvalidArgument, match="Input 'x': The rows of a list differ"):
        messages.predict_request(Servable("m"), {"x": [[1.0], [1.0, 2.0]]})


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
    first, second = messages.classifications(answer, 2, top=2)
    assert (first.label, first.version) == ("b", 9)
    assert [name for name, _ in first.top] == ["b", "ü"]
    assert second.label == "a"  # of equal probabilities the first in the vocabulary wins


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([b"unknown", b"a"], ["unknown", "b"]),
        ([b"unknown"], ["b", "b"]),  # of another number of images
        ([1, 1], ["b", "b"]),  # of another program, which answers with numbers
    ],
)
def test_a_label_that_is_no_class_is_kept(labels, expected):
    outputs = {
        "classes": np.array([[b"a", b"b"]] * 2, object),
        "probabilities": np.float32([[0.4, 0.6], [0.45, 0.55]]),
        "label": np.array(labels, object),
    }
    answer = Prediction(outputs, "m", 9, "serving_default")
    found = messages.classifications(answer, 2, top=1)
    assert [one.label for one in found] == expected
    assert all(one.top[0][0] == "b" for one in found)


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
        messages.classifications(Prediction(outputs, "m", 1, "serving_default"), 1, 5)


def test_a_reload_request_equals_the_official_one():
    from google.protobuf import text_format
    from tensorflow_serving.apis import model_management_pb2

    config = """
    model_config_list { config {
      name: "m" base_path: "/models/m" model_platform: "tensorflow"
      model_version_policy { specific { versions: 1 versions: 2 } }
      version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }
    } }
    """
    reload = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(config, reload.config)
    ours = messages.reload_request(config).SerializeToString(deterministic=True)
    assert ours == reload.SerializeToString(deterministic=True)
