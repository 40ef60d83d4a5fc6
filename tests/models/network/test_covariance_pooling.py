"""Tests of covariance pooling against NumPy, of its axes, and of its form in exported files."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from imgpipe.models.export.saved_model import export
from imgpipe.models.files.described_files import SERVING_DEFAULT
from imgpipe.models.machine import process
from imgpipe.models.names import HEAD
from imgpipe.models.network import covariance_pooling, network_file
from imgpipe.models.network.classifier import build_classifier
from tests.images import encoded, soft
from tests.models import banks

_SETTINGS = banks.covariance_settings(64)
_CLASSES = ("a", "b", "c")


def _pooled(maps: list[np.ndarray], axes: list[np.ndarray]) -> list[np.ndarray]:
    inputs = [keras.Input(each.shape[1:]) for each in maps]
    pool = keras.Model(inputs, covariance_pooling.pooled(inputs, axes))
    found = pool(maps)
    return [np.asarray(each) for each in (found if isinstance(found, list) else [found])]


def _roots(values: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Return exact square roots of the covariances of a map, [N, d, d]."""
    flat = values.reshape(len(values), -1, values.shape[-1]).astype(np.float64) @ axes
    covariances = np.stack([np.cov(each.T, bias=True) for each in flat])
    squares, vectors = np.linalg.eigh(covariances)
    lengths = np.sqrt(np.maximum(squares, 0))
    return (vectors * lengths[:, None]) @ vectors.transpose(0, 2, 1)


@pytest.fixture
def maps() -> list[np.ndarray]:
    """Return two feature maps whose channels go together in part."""
    random = np.random.default_rng(0)
    mixed = random.normal(size=(3, 7, 7, 12)) @ random.normal(size=(12, 12))
    return [mixed.astype(np.float32), random.normal(size=(3, 14, 14, 6)).astype(np.float32)]


def test_the_features_are_the_upper_triangles_of_square_roots_of_covariances(maps) -> None:
    random = np.random.default_rng(1)
    axes = [np.linalg.qr(random.normal(size=(each.shape[-1], 4)))[0] for each in maps]
    axes = [each.astype(np.float32) for each in axes]
    row, column = np.triu_indices(4)
    for values, columns, found in zip(maps, axes, _pooled(maps, axes), strict=True):
        exact = _roots(values, columns)
        assert found.shape == (3, 10)
        # Five iterations are an approximation, which is worst for the smallest eigenvalues.
        np.testing.assert_allclose(found, exact[:, row, column], atol=0.05 * exact.max())


@pytest.mark.parametrize("value", [0.0, 6.0, 1e4])
def test_a_map_without_variance_gives_zeros_and_a_finite_gradient(value: float) -> None:
    pixels = keras.Input((5, 5, 4))
    [features] = covariance_pooling.pooled([pixels], [np.eye(4, dtype=np.float32)])
    network = keras.Model(pixels, features)
    constant = tf.fill((2, 5, 5, 4), value)
    with tf.GradientTape() as tape:
        tape.watch(constant)
        found = network(constant)
        total = tf.reduce_sum(found)
    assert not np.asarray(found).any()
    assert np.isfinite(tape.gradient(total, constant)).all()


def test_a_map_of_16_bits_is_pooled_in_float32(maps) -> None:
    axes = [np.eye(12, 5, dtype=np.float32)]
    half = maps[0].astype(np.float16)
    with process.dtype_policy("mixed_float16"):
        inputs = keras.Input((7, 7, 12), dtype="float16")
        [features] = covariance_pooling.pooled([inputs], axes)
    assert features.dtype == "float32"
    found = np.asarray(keras.Model(inputs, features)(keras.ops.convert_to_tensor(half)))
    [expected] = _pooled([half.astype(np.float32)], axes)
    # A sum of squares of 49 such numbers has two digits in float16.
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


def test_without_axes_a_network_has_orthonormal_ones_that_are_the_same_in_each_build() -> None:
    networks = [build_classifier(None, _CLASSES, _SETTINGS).network for _ in range(2)]
    first, second = (covariance_pooling.axes_in(network) for network in networks)
    assert [columns.shape for columns in first] == [(16, 12), (16, 12), (12, 12)]
    for columns, again in zip(first, second, strict=True):
        np.testing.assert_array_equal(columns, again)
        np.testing.assert_allclose(columns.T @ columns, np.eye(12), atol=1e-6)


def test_the_saved_model_and_the_network_that_is_built_again_answer_alike(tmp_path) -> None:
    keras.utils.clear_session()  # the names of layers are those of a new process
    classifier = build_classifier(None, _CLASSES, _SETTINGS)
    head = classifier.network.get_layer(HEAD)
    kernel, bias = head.get_weights()
    head.set_weights([20 * kernel, bias])  # so that the answers differ
    version = tmp_path / "1"
    export(classifier, str(version))
    network_file.save(classifier, _SETTINGS, str(version))
    images = [encoded(soft(seed, (64, 64))) for seed in range(6)]
    expected = classifier.probabilities(images)
    assert expected.std(axis=0).max() > 1e-3, "the images differ"
    served = tf.saved_model.load(str(version)).signatures[SERVING_DEFAULT]
    found = served(image_bytes=tf.constant(images))["probabilities"]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    again = network_file.load(version).probabilities(images)
    np.testing.assert_allclose(again, expected, atol=1e-6)
