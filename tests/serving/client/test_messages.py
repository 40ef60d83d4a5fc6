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
    ("views", "labels", "expected"),
    [
        (1, [b"unknown", b"a"], ["unknown", "b"]),
        (2, [b"unknown", b"unknown"], ["unknown"]),
        (2, [b"unknown", b"b"], ["b"]),
        (1, [b"unknown"], ["b", "b"]),  # of another number of images
        (1, [1, 1], ["b", "b"]),  # of another program, which answers with numbers
    ],
)
def test_a_label_that_is_no_class_is_kept_if_all_views_have_it(views, labels, expected):
    outputs = {
        "classes": np.array([[b"a", b"b"]] * 2, object),
        "probabilities": np.float32([[0.4, 0.6], [0.45, 0.55]]),
        "label": np.array(labels, object),
    }
    answer = Prediction(outputs, "m", 9, "serving_default")
    found = messages.classifications(answer, 2 // views, top=1, views=views)
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


# --- tf.Examples, labels, MultiInference, reloading --------------------------------------------
FEATURES = {"x": 1.5, "n": [1, -2], "image_bytes": b"\xff\xd8", "words": ["a", "ü"], "none": []}


def official_example(features):
    """Return the tf.Example that TensorFlow's classes build of the same features."""
    kinds = {float: "float_list", int: "int64_list", bytes: "bytes_list", str: "bytes_list"}
    example = tf.train.Example()
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        kind = kinds[type(values[0])] if values else "float_list"
        encoded = [v.encode() if isinstance(v, str) else v for v in values]
        getattr(example.features.feature[name], kind).value.extend(encoded)
        getattr(example.features.feature[name], kind).SetInParent()
    return example


def same(ours, theirs) -> bool:
    """Return whether two messages have the same deterministic serialization."""
    return ours.SerializeToString(deterministic=True) == theirs.SerializeToString(
        deterministic=True
    )


@pytest.mark.parametrize("with_context", [False, True])
@pytest.mark.parametrize("examples", [[], [FEATURES], [FEATURES, {}, {"y": 2.5}]])
def test_classify_and_regress_requests_equal_the_official_ones(examples, with_context):
    from tensorflow_serving.apis import classification_pb2, regression_pb2

    context = {"shared": 3.5} if with_context else None
    for theirs, ours in (
        (classification_pb2.ClassificationRequest(), protos.ClassificationRequest()),
        (regression_pb2.RegressionRequest(), protos.RegressionRequest()),
    ):
        theirs.model_spec.name, theirs.model_spec.signature_name = "m", "s"
        listed = theirs.input.example_list
        if with_context:
            listed = theirs.input.example_list_with_context
            listed.context.CopyFrom(official_example(context))
        listed.SetInParent()
        listed.examples.extend(official_example(example) for example in examples)
        assert same(messages.examples_request(ours, Servable("m"), examples, "s", context), theirs)


def test_multi_inference_and_reload_requests_equal_the_official_ones():
    from google.protobuf import text_format
    from tensorflow_serving.apis import inference_pb2, model_management_pb2

    theirs = inference_pb2.MultiInferenceRequest()
    for signature, method in (("a", "classify"), ("b", "regress")):
        task = theirs.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = "m", signature
        task.model_spec.version_label = "stable"
    theirs.input.example_list.examples.append(official_example(FEATURES))
    tasks = {"a": "classify", "b": "regress"}
    assert same(
        messages.multi_inference_request(Servable("m", label="stable"), tasks, [FEATURES]), theirs
    )
    with pytest.raises(InvalidArgument, match="one of classify, regress"):
        messages.multi_inference_request(Servable("m"), {"a": "predict"}, [])

    config = """
    model_config_list { config {
      name: "m" base_path: "/models/m" model_platform: "tensorflow"
      model_version_policy { specific { versions: 1 versions: 2 } }
      version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }
    } }
    """
    reload = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(config, reload.config)
    assert same(messages.reload_request(config), reload)


def test_replies_of_classify_regress_and_multi_inference_are_read():
    from tensorflow_serving.apis import classification_pb2, inference_pb2, regression_pb2

    ranked = classification_pb2.ClassificationResponse()
    ranked.model_spec.name, ranked.model_spec.version.value = "m", 3
    one = ranked.result.classifications.add()
    one.classes.add(label="a", score=0.25)
    one.classes.add(score=0.75)
    read = messages.rankings(protos.ClassificationResponse.FromString(ranked.SerializeToString()))
    assert (read.examples, read.version) == ([[("a", 0.25), ("", 0.75)]], 3)

    numbers = regression_pb2.RegressionResponse()
    numbers.result.regressions.add(value=1.5)
    numbers.result.regressions.add(value=-2.0)
    values = messages.regressions(
        protos.RegressionResponse.FromString(numbers.SerializeToString())
    ).values
    assert (values.dtype, values.tolist()) == (np.float32, [1.5, -2.0])

    several = inference_pb2.MultiInferenceResponse()
    for name, kind, result in (
        ("c", "classification_result", ranked.result),
        ("r", "regression_result", numbers.result),
    ):
        item = several.results.add()
        item.model_spec.signature_name = name
        getattr(item, kind).CopyFrom(result)
    both = messages.inferences(
        protos.MultiInferenceResponse.FromString(several.SerializeToString())
    )
    assert both["c"].examples == read.examples
    assert both["r"].values.tolist() == [1.5, -2.0]


def test_the_error_names_a_feature_of_an_unsupported_type():
    with pytest.raises(InvalidArgument, match=r"Feature 'x': a tf\.Example can only hold bytes"):
        messages.examples_request(protos.RegressionRequest(), Servable("m"), [{"x": 1j}])


def test_an_integer_that_is_too_large_for_a_feature_is_refused():
    largest = np.array([1, (1 << 63) - 1], np.uint64)
    request = messages.examples_request(protos.RegressionRequest(), Servable("m"), [{"x": largest}])
    (example,) = request.input.example_list.examples
    assert example.features.feature["x"].int64_list.value == [1, (1 << 63) - 1]
    for value in (largest + np.uint64(1), 1 << 63):
        with pytest.raises(InvalidArgument, match=r"'x': .* are int64\. Received: 9223372036854"):
            messages.examples_request(protos.RegressionRequest(), Servable("m"), [{"x": value}])


@pytest.mark.parametrize("selection", [("\udcff",), ("m", 2**63), ("m", None, "\udcff")])
def test_a_selection_that_cannot_be_sent_is_refused(selection):
    with pytest.raises(InvalidArgument, match=r"valid Unicode|64 bits"):
        Servable(*selection)


def test_names_may_be_bytes_and_missing_ones_none():
    spec = messages.predict_request(Servable(b"m"), {}, None).model_spec
    assert (spec.name, spec.signature_name) == ("m", "")


def test_a_name_of_a_signature_that_cannot_be_sent_is_refused():
    with pytest.raises(InvalidArgument, match="valid Unicode"):
        messages.predict_request(Servable("m"), {}, "\udcff")
