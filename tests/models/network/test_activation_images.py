"""Tests of the activations of a network: the values are right, and the default layers useful."""

import keras
import numpy as np
import pytest

from imgpipe.models.network import activation_images as activations
from imgpipe.models.network.classifier import add_head, build_features
from tests.network_settings import network_settings


@pytest.fixture(scope="module")
def network():
    given = {"backbone": "conv_16_32_64", "weights": "none", "features": "flatten"}
    settings = network_settings(**given, hidden_units=8)
    pixels, _, features = build_features(settings, trainable=True)
    return keras.Model(pixels, add_head(features, 2, settings))


def test_outputs_are_those_of_each_layer(network) -> None:
    """Each layer is called separately on the output of the layer before it."""
    pixels = np.random.default_rng(0).uniform(0, 255, (150, 150, 3)).astype(np.float32)
    names = activations.choose(network, ["all"])
    found = activations.outputs(network, names, pixels)
    assert set(found) == set(names) >= {"conv1", "pool3"}
    values = pixels[None]
    for layer in network.layers:
        if layer.name == "pixels" or layer.name.startswith("pad"):
            continue
        values = np.asarray(layer(values, training=False))
        if layer.name in names:
            np.testing.assert_array_equal(found[layer.name], values[0])
    assert found["conv1"].shape == (148, 148, 16)
    assert activations.choose(network, ["pool2", "conv1"]) == ["conv1", "pool2"], "in their order"


def test_the_overlay_has_the_size_of_the_image_and_the_colours_of_the_map() -> None:
    image = np.full((40, 60, 3), 128, np.uint8)
    cam = np.zeros((2, 3), np.float32)
    cam[0, 2] = 1.0
    drawn = activations.overlay(image, cam).astype(int)
    assert drawn.shape == image.shape
    assert drawn[0, -1, 0] > drawn[0, -1, 2], "red where the map is highest"
    assert drawn[-1, 0, 2] > drawn[-1, 0, 0], "blue where it is 0"


@pytest.mark.parametrize(("side", "depth"), [(1, 3), (7, 100)])
def test_maps_of_any_size_are_drawn_even_if_they_are_constant(side, depth) -> None:
    maps = np.zeros((side, side, depth), np.float32)
    assert activations.feature_maps(maps, "a $ name").startswith(b"\x89PNG")
