"""Tests of a head that is combined with a network: one graph, in memory and in every export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imgpipe.models import preprocess
from imgpipe.models.export import exchange_files
from imgpipe.models.export.saved_model import export
from imgpipe.models.export.signatures import grad_cam
from imgpipe.models.head.calibration import softmax
from imgpipe.models.network import network_file
from imgpipe.models.network.classifier import (
    ClassifierNetwork,
    TunedBranch,
    build_classifier,
    build_head,
)
from imgpipe.models.settings import ModelSettings
from imgpipe.models.training import stages

# Keras causes this warning when it writes a file of weights.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")

_CUT = "block8_project"
_FACTORS = (0.3 / 1.4, 0.7 / 0.8)
_SETTINGS = ModelSettings(image_size=64, features="levels")
_TEMPERATURE = 1.2


@pytest.fixture(scope="module")
def images(draw) -> list[bytes]:
    """Return five encoded images."""
    return [draw(seed, (64 + seed, 70)) for seed in range(5)]


@pytest.fixture(scope="module", params=[2, 3], ids=["binary", "three"])
def parts(request) -> tuple[ClassifierNetwork, ClassifierNetwork, ClassifierNetwork]:
    """Return a head and a network, each as a classifier, and both combined."""
    classes = request.param
    vocabulary = [f"class {number}" for number in range(classes)]
    random = np.random.default_rng(classes)
    head = build_head(6208, classes, _SETTINGS)
    head.set_weights([random.normal(size=w.shape, scale=0.2) for w in head.get_weights()])
    tuned = stages.network(classes, _SETTINGS.for_search, _CUT)
    tuned.set_weights([w * random.uniform(0.9, 1.1, w.shape) for w in tuned.get_weights()])
    branch = TunedBranch(_CUT, tuned, *_FACTORS)
    return (
        build_classifier(head, vocabulary, _SETTINGS),
        build_classifier(tuned, vocabulary, _SETTINGS.for_search),
        build_classifier(head, vocabulary, _SETTINGS, _TEMPERATURE, branch=branch),
    )


@pytest.fixture(scope="module")
def combined(parts) -> ClassifierNetwork:
    """Return the combined classifier."""
    return parts[2]


@pytest.fixture(scope="module")
def version(combined, images, tmp_path_factory) -> Path:
    """Return the folder of its export."""
    directory = tmp_path_factory.mktemp("combined") / "1"
    export(combined, str(directory), top_k=2, warmup_images=images[:1])
    network_file.save(combined, _SETTINGS, str(directory))
    return directory


@pytest.fixture(scope="module")
def pixels(images) -> np.ndarray:
    """Return the images as other programs give them to a file, uint8 [n, S, S, 3]."""
    return np.stack([preprocess.whole_pixels(image, 64).numpy() for image in images])


def _outputs(classifier: ClassifierNetwork, images: list[bytes]) -> dict[str, np.ndarray]:
    """Return the outputs of a classifier for at most 32 images."""
    [outputs] = classifier.outputs(images)
    return {name: values.numpy() for name, values in outputs.items()}


def test_the_graph_adds_the_weighted_logits_of_head_and_network(parts, images) -> None:
    head, network, both = (_outputs(one, images) for one in parts)
    logits = _FACTORS[0] * head["logits"] + _FACTORS[1] * network["logits"]
    assert np.ptp(network["logits"], axis=0).max() > 0.1, "the images differ"
    np.testing.assert_allclose(both["logits"], logits, atol=1e-5)
    np.testing.assert_allclose(both["probabilities"], softmax(logits / _TEMPERATURE), atol=1e-5)
    np.testing.assert_array_equal(both["features"], head["features"])


def test_the_layers_below_the_cut_are_shared(parts) -> None:
    head, network, both = (one.network.count_params() for one in parts)
    tuned = stages.network(len(parts[0].vocabulary), _SETTINGS.for_search, _CUT)
    assert both == head + tuned.count_params()
    assert both < head + network


def test_a_combined_network_is_restored_bit_for_bit(combined, version, images) -> None:
    found = network_file.load(version)
    np.testing.assert_array_equal(found.probabilities(images), combined.probabilities(images))
    assert (found.cut, found.temperature) == (_CUT, _TEMPERATURE)
    assert [map.shape for map in found.trunk.outputs] == [
        map.shape for map in combined.trunk.outputs
    ]


def test_the_saved_model_answers_as_the_network_in_memory(combined, version, images) -> None:
    import tensorflow as tf

    signatures = tf.saved_model.load(str(version)).signatures
    served = signatures["serving_default"](tf.constant(images))
    expected = combined.probabilities(images)
    np.testing.assert_allclose(served["probabilities"].numpy(), expected, atol=1e-5)
    features = signatures["features"](tf.constant(images))["features"]
    assert features.shape == (len(images), 6208)


def test_grad_cam_shows_the_evidence_of_both_branches(parts, images) -> None:
    """With a weight of almost nothing, the evidence is that of the other branch."""
    head, network, combined = parts
    shown = preprocess.batch_decode(images, 64)
    both, of_head, of_network = (
        grad_cam(one, shown)["cam"].numpy() for one in (combined, head, network)
    )
    assert both.shape == of_head.shape
    assert (both.max((1, 2)) == 1).any()
    assert np.abs(both - of_head).max() > 0.01
    assert of_network.shape[1] < both.shape[1]


def test_the_keras_file_and_the_lite_file_answer_like_the_served_graph(
    combined, version, pixels
) -> None:
    import tensorflow as tf

    served = tf.saved_model.load(str(version)).signatures["serving_pixels"]
    expected = served(tf.constant(pixels))["probabilities"].numpy()
    of_keras = exchange_files.open_keras(exchange_files.to_keras(version))(pixels)
    np.testing.assert_allclose(of_keras, expected, atol=1e-5)
    lite = exchange_files.to_lite(version, combined.vocabulary)
    np.testing.assert_allclose(exchange_files.open_lite(lite)(pixels), expected, atol=0.02)


@pytest.mark.slow
def test_the_onnx_file_and_the_file_of_8_bits_answer_like_the_served_graph(
    combined, version, pixels
) -> None:
    pytest.importorskip("tf2onnx")
    import tensorflow as tf

    served = tf.saved_model.load(str(version)).signatures["serving_pixels"]
    expected = served(tf.constant(pixels))["probabilities"].numpy()
    onnx = exchange_files.to_onnx(version, combined.vocabulary)
    np.testing.assert_allclose(exchange_files.open_onnx(onnx)(pixels), expected, atol=1e-4)
    lite = exchange_files.to_lite(version, combined.vocabulary, list(pixels))
    answers = exchange_files.open_lite(lite)(pixels)
    assert (answers.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.8
