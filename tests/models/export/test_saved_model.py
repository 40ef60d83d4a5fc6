"""The SavedModel in a graph session, as servers run it: answers, warm-up, assets and bad inputs."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from imgpipe.components.common.storage import records
from imgpipe.models import names, preprocess
from imgpipe.models.export.saved_model import export, grad_cam
from imgpipe.models.network.classifier import ClassifierNetwork, build_classifier, build_head
from imgpipe.serving.server.runtime import Runtime
from tests.images import encoded, exif, soft, turned
from tests.network_settings import network_settings

_SIZE = 64
_OUTPUTS = {"label", "classes", "probabilities", "top_k_classes", "top_k_probabilities"}

_FORMATS = ("JPEG", "PNG", "BMP", "JPEG", "GIF")
_IMAGES = [encoded(soft(seed, (64 + seed, 70)), kind) for seed, kind in enumerate(_FORMATS)]
Answer = Callable[[str, object], dict[str, np.ndarray]]


def _classifier(classes: int, **settings: object) -> ClassifierNetwork:
    """Return a network with a random head whose answers differ between images."""
    options = network_settings(image_size=_SIZE, **{"features": "average", **settings})
    head = build_head(1280 if options.model.features == "average" else 7520, classes, options)
    random = np.random.default_rng(classes)
    head.set_weights([random.normal(size=w.shape, scale=0.2) for w in head.get_weights()])
    return build_classifier(head, [f"class {n}" for n in range(classes)], options)


@pytest.fixture(
    scope="module",
    params=[pytest.param(2, id="binary", marks=pytest.mark.slow), pytest.param(3, id="three")],
)
def classifier(request) -> ClassifierNetwork:
    """Return a network of two classes, as in `tests/pipeline`, or of three."""
    return _classifier(request.param)


@pytest.fixture(scope="module")
def directory(classifier, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("export")
    export(classifier, str(directory), top_k=2, warmup_images=_IMAGES[:3])
    return directory


@pytest.fixture(scope="module")
def meta_graph(directory):
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    (graph,) = model.meta_graphs
    return graph


@pytest.fixture(scope="module")
def session(directory) -> Iterator[Answer]:
    """Return a function that runs a signature in a graph session, without a look at shapes."""
    running = Runtime(directory)

    def ask(signature: str, values: object) -> dict[str, np.ndarray]:
        definition = running.signatures[signature]
        (name,) = definition.inputs
        return running.run(signature, {name: values})

    yield ask
    running.close()


@pytest.fixture(scope="module")
def expected(classifier) -> np.ndarray:
    return classifier.probabilities(_IMAGES)


def _examples(images: list[bytes]) -> np.ndarray:
    """Return the images as serialised tf.Examples, each with the label "other"."""
    rows = [{names.IMAGE_BYTES: image, names.LABEL: "other"} for image in images]
    return np.array([records.serialise(records.make(row)) for row in rows], object)


def test_the_session_serves_the_probabilities_of_the_trained_model(session, expected, classifier):
    found = session("serving_default", np.array(_IMAGES, object))
    assert set(found) == _OUTPUTS
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-6)
    by_examples = session("serving_examples", _examples(_IMAGES))
    np.testing.assert_allclose(by_examples["probabilities"], expected, atol=1e-6)
    vocabulary = [name.encode() for name in classifier.vocabulary]
    assert found["classes"].tolist() == [vocabulary] * len(_IMAGES)
    best = expected.argmax(1)
    assert found["label"].tolist() == [vocabulary[n] for n in best]
    assert found["top_k_classes"].shape == found["top_k_probabilities"].shape == (len(_IMAGES), 2)
    np.testing.assert_array_equal(found["top_k_classes"][:, 0], found["label"])
    np.testing.assert_allclose(found["top_k_probabilities"][:, 0], expected.max(1), atol=1e-6)


def test_the_signature_serving_pixels_gives_the_same_probabilities(session, expected):
    for image, row in zip(_IMAGES, expected, strict=True):
        found = session("serving_pixels", preprocess.decode(image).numpy()[None])
        assert set(found) == _OUTPUTS
        np.testing.assert_allclose(found["probabilities"], row[None], atol=1e-5)


def test_a_jpeg_is_turned_by_its_exif_orientation_in_the_graph(session):
    image = soft(0, (90, 60))
    files = [encoded(image, "JPEG", exif=exif(orientation)) for orientation in range(1, 9)]
    found = session("serving_default", np.array(files, object))["probabilities"]
    features = session("features", np.array(files, object))["features"]
    assert len(np.unique(features.round(3), axis=0)) == 8
    stored = preprocess.decode(encoded(image, "JPEG")).numpy()
    for orientation, row in enumerate(found, 1):
        upright = session("serving_pixels", turned(stored, orientation)[None])["probabilities"]
        np.testing.assert_allclose(row[None], upright, atol=1e-5)


def test_the_signature_features_returns_the_inputs_of_the_head(session, expected, classifier):
    features = session("features", np.array(_IMAGES, object))["features"]
    assert features.shape == (len(_IMAGES), 1280)
    head = classifier.network.get_layer("classifier").get_weights()
    logits = features @ head[0] + head[1]
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], 1)
    powers = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(powers / powers.sum(1, keepdims=True), expected, atol=1e-5)


def test_the_signature_cam_weights_the_feature_map_by_the_top_class(session, expected, classifier):
    """For a linear head on pooled features, Grad-CAM has a closed form."""
    found = session("cam", np.array(_IMAGES, object))
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-6)
    maps = classifier.trunk(preprocess.batch_decode(_IMAGES, _SIZE), training=False).numpy()
    weights = classifier.network.get_layer("classifier").get_weights()[0].T
    if len(weights) == 1:
        weights = np.concatenate([np.zeros_like(weights), weights])
    margin = (weights - weights.mean(0))[expected.argmax(1)]
    cam = np.maximum(np.einsum("nhwd,nd->nhw", maps, margin), 0)
    highest = cam.max((1, 2), keepdims=True)
    cam = np.divide(cam, highest, out=np.zeros_like(cam), where=highest > 0)
    assert found["cam"].shape == (len(_IMAGES), 2, 2)
    np.testing.assert_allclose(found["cam"], cam, atol=1e-4)


def test_the_evidence_in_all_maps_adds_up_at_the_size_of_the_largest():
    several = _classifier(3, features="covariance")
    found = grad_cam(several, preprocess.batch_decode(_IMAGES, _SIZE))
    assert found["cam"].shape == (len(_IMAGES), 4, 4)
    assert (found["cam"].numpy().max((1, 2)) == 1).all()


@pytest.mark.parametrize("signature", ["serving_default", "features", "cam"])
def test_a_request_without_images_is_an_invalid_argument(session, signature):
    with pytest.raises(tf.errors.InvalidArgumentError, match="one image or more"):
        session(signature, np.array([], object))


@pytest.mark.parametrize(
    ("signature", "garbage", "message"),
    [
        ("serving_default", b"", "Input is empty"),
        ("serving_default", b"/home/ann/photos/cat.jpg", "Unknown image file format"),
        ("serving_examples", b"II*\0garbage", "Unknown image file format"),
        ("features", b"\xff\xd8\xff\xe0 no jpeg", "Invalid JPEG data"),
        ("cam", b"\0garbage", "Unknown image file format"),
    ],
)
def test_undecodable_bytes_are_an_invalid_argument(session, signature, garbage, message):
    batch = [_IMAGES[0], garbage]
    values = _examples(batch) if signature == "serving_examples" else np.array(batch, object)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        session(signature, values)


def test_one_image_without_a_list_is_answered(session, expected):
    def alone(value: bytes) -> np.ndarray:
        return np.array(value, object)

    pixels = preprocess.decode(_IMAGES[0]).numpy()
    for signature, value in (
        ("serving_default", alone(_IMAGES[0])),
        ("serving_examples", alone(_examples(_IMAGES[:1])[0])),
        ("serving_pixels", pixels),
    ):
        found = session(signature, value)["probabilities"]
        np.testing.assert_allclose(found, expected[:1], atol=1e-5)


@pytest.mark.parametrize(
    ("signature", "shape", "message"),
    [
        ("serving_default", (1, 1), r"image_bytes: .* Received: shape \[1 1\]"),
        ("serving_examples", (2, 1), r"examples: .* Received: shape \[2 1\]"),
        ("cam", (0, 3), r"image_bytes: .* Received: shape \[0 3\]"),
        ("serving_pixels", (1, 64, 64, 1), r"RGB.* Received: shape \[1 64 64 1\]"),
        ("serving_pixels", (1, 64, 64, 4), r"RGB.* Received: shape \[1 64 64 4\]"),
        ("serving_pixels", (64, 64), r"\[N, height, width, 3\].* Received: shape \[64 64\]"),
        ("serving_pixels", (), r"Received: shape \[\]"),
        ("serving_pixels", (1, 1, 64, 64, 3), r"Received: shape \[1 1 64 64 3\]"),
        ("serving_pixels", (0, 64, 64, 3), r"one image or more.* Received: shape \[0 64 64 3\]"),
        ("serving_pixels", (1, 0, 64, 3), r"Received: shape \[1 0 64 3\]"),
    ],
)
def test_a_value_of_another_shape_is_named(session, signature, shape, message):
    value = np.zeros(shape, np.uint8)
    if signature != "serving_pixels":
        value = np.full(shape, _IMAGES[0], object)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        session(signature, value)


def test_the_vocabulary_is_an_asset(meta_graph, directory, classifier):
    (asset,) = meta_graph.asset_file_def
    assert asset.filename == "vocabulary.txt"
    text = (directory / "assets" / asset.filename).read_text("utf-8")
    assert tuple(text.splitlines()) == classifier.vocabulary


def test_the_warm_up_requests_can_be_parsed_and_answered(session, directory, classifier):
    from tensorflow_serving.apis import prediction_log_pb2

    path = directory / "assets.extra" / "tf_serving_warmup_requests"
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    sizes = []
    for record in records:
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        assert request.model_spec.name == "imgpipe"
        assert set(request.inputs) == {"image_bytes"}
        values = tf.make_ndarray(request.inputs["image_bytes"])
        answer = session(request.model_spec.signature_name, values)
        sizes.append(len(answer["label"]))
    assert sizes == [1, 1, 1, 3]


def test_the_graph_has_only_core_ops(meta_graph):
    """Every op is registered by the TensorFlow library itself."""
    from tensorflow.python.framework import op_def_registry

    graph = meta_graph.graph_def
    nodes = [*graph.node, *(node for fn in graph.library.function for node in fn.node_def)]
    functions = {function.signature.name for function in graph.library.function}
    ops = {node.op for node in nodes} - functions
    assert "DecodeImage" in ops and "Conv2D" in ops
    assert not {op for op in ops if op_def_registry.get(op) is None}
    assert not {op for op in ops if "PyFunc" in op or ">" in op}
    assert not [f for f in graph.library.function if f.attr["_XlaMustCompile"].b]


def test_variables_are_stored_once_in_float32(directory, classifier):
    stored = [
        shape
        for name, shape in tf.train.list_variables(str(directory / "variables" / "variables"))
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH"
    ]
    sizes = sum(int(np.prod(shape)) for shape in stored)
    assert sizes == classifier.network.count_params()
    assert {weight.dtype for weight in classifier.network.weights} == {"float32"}
