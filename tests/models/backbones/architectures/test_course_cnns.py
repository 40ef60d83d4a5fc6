"""Tests of the course's own networks, layer by layer."""

import keras
import numpy as np
import pytest

from imgpipe.models import backbones
from imgpipe.models.errors import ConfigError


def _build(name: str, size: int):
    pixels = keras.Input((size, size, 3))
    backbone = backbones.Backbone(name, weights="none")
    return keras.Model(pixels, backbone.build(pixels, trainable=True)[0])


@pytest.mark.parametrize(
    ("name", "size", "end", "parameters"),
    [
        # The sizes and parameters that `model.summary()` prints in the course.
        ("conv_16_32_64", 150, (17, 17, 64), 448 + 4640 + 18496),
        ("conv_32_64_128_128", 150, (7, 7, 128), 896 + 18496 + 73856 + 147584),
        ("conv_16_32_64_64_64", 300, (7, 7, 64), 448 + 4640 + 18496 + 36928 + 36928),
        ("conv_64_64_128_128", 150, (7, 7, 128), 1792 + 36928 + 73856 + 147584),
        ("conv_64_64_grey", 28, (5, 5, 64), 640 + 36928),
    ],
)
def test_sizes_and_parameters_are_those_of_the_course(name, size, end, parameters) -> None:
    assert backbones.Backbone(name, weights="none").image_size == size
    model = _build(name, size)
    assert model.output.shape == (None, *end)
    assert model.count_params() == parameters


def test_pixels_are_divided_by_255() -> None:
    model = _build("conv_16_32_64", 32)
    first = keras.Model(model.input, model.get_layer("normalise").output)
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(first(pixels), pixels / 255, rtol=1e-6)


def test_a_name_with_other_numbers_of_filters_is_a_network_too() -> None:
    assert _build("conv_8_16", 28).output.shape == (None, 5, 5, 16)
    assert backbones.Backbone("conv_8_16", weights="none").image_size == 150


def test_an_image_that_is_too_small_is_refused_with_the_least_size() -> None:
    with pytest.raises(ConfigError, match=r"conv_64_64_128_128 needs 46 pixels.*Received: 28"):
        _build("conv_64_64_128_128", 28)
    assert _build("conv_64_64_128_128", 46).output.shape == (None, 1, 1, 128)
