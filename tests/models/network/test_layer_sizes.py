"""Tests of the size arithmetic of layers against the sizes that Keras computes."""

from __future__ import annotations

import itertools

import pytest

from imgpipe.models.network.classifier import build_parts
from imgpipe.models.network.layer_sizes import Axis, LayerSize, sizes
from imgpipe.models.settings import ModelSettings

_COURSE = (
    "conv_16_32_64",
    "conv_32_64_128_128",
    "conv_16_32_64_64_64",
    "conv_64_64_128_128",
    "conv_64_64_grey",
)


def _sizes(backbone: str, **settings: object) -> tuple[list[LayerSize], int]:
    """Return the rows of a network with random weights, and Keras' number of parameters."""
    import keras

    parts = build_parts(2, ModelSettings(backbone=backbone, weights="none", **settings))
    network = keras.Model(parts.pixels, parts.logits)
    return sizes(network), network.count_params()


def _check(rows: list[LayerSize], parameters: int) -> None:
    """Assert that the computed sizes and parameters of all rows equal those of Keras."""
    assert sum(row.parameters for row in rows) == parameters
    for row in rows:
        if row.axes:
            assert tuple(axis.result for axis in row.axes) == row.output[:2], row
            assert f"= {row.output[1]}" in row.arithmetic


@pytest.mark.parametrize("backbone", _COURSE)
def test_sizes_of_the_course_networks_equal_those_of_keras(backbone: str) -> None:
    rows, parameters = _sizes(backbone, pooling="flatten", hidden_units=8)
    _check(rows, parameters)
    convolutions = [row for row in rows if row.kind == "Conv2D"]
    assert len(convolutions) == backbone.count("_") - ("grey" in backbone)
    assert all(row.filters == row.output[-1] and row.axes[0].window == 3 for row in convolutions)


@pytest.mark.parametrize(
    ("backbone", "settings"),
    [
        ("efficientnet_lite0", {"freeze": "none"}),
        ("mobilenet_v2", {"image_size": 160, "freeze": "all"}),
        ("mobilenet_v2", {"image_size": 97, "freeze": "none"}),
        ("inception_v3", {"image_size": 150, "cut": "mixed7", "freeze": "all"}),
    ],
)
def test_sizes_of_other_backbones_equal_those_of_keras(
    backbone: str, settings: dict[str, object]
) -> None:
    _check(*_sizes(backbone, **settings))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["nasnet_mobile", "densenet121", "xception", "resnet50_v2"])
def test_sizes_of_more_keras_applications_equal_those_of_keras(backbone: str) -> None:
    _check(*_sizes(backbone, image_size=96))


def test_the_arithmetic_is_written_as_in_the_course() -> None:
    rows = {row.name: row for row in _sizes("conv_64_64_grey", pooling="flatten")[0]}
    assert rows["conv1"].arithmetic == "(28 − 3 + 2·0)/1 + 1 = 26, D = K = 64"
    assert rows["pool2"].arithmetic == "⌊(11 − 2 + 2·0)/2⌋ + 1 = 5, D = 64"
    assert rows["features"].arithmetic == "5·5·64 = 1600"
    assert (rows["conv1"].inputs, rows["conv1"].parameters) == (((28, 28, 1),), 640)


def test_the_arithmetic_shows_the_numbers_of_same_padding() -> None:
    import keras
    from keras import layers

    pixels = keras.Input((17, 17, 6))
    x = layers.Conv2D(4, (1, 7), padding="same", name="wide")(pixels)
    x = layers.DepthwiseConv2D(3, 2, padding="same", depth_multiplier=2, name="deep")(x)
    x = layers.Conv2D(5, 2, padding="same", name="odd")(x)
    rows = {row.name: row for row in sizes(keras.Model(pixels, x))}
    assert rows["wide"].arithmetic == (
        "H: (17 − 1 + 2·0)/1 + 1 = 17; W: (17 − 7 + 2·3)/1 + 1 = 17, D = K = 4"
    )
    assert rows["deep"].arithmetic == "(17 − 3 + 2·1)/2 + 1 = 9, D = 8"
    assert (rows["odd"].axes[0].padding, rows["odd"].output) == ("0|1", (9, 9, 5))
    assert rows["odd"].arithmetic.startswith("(9 − 2 + 0 + 1)/1 + 1 = 9")


def test_the_length_of_every_axis_is_that_of_keras() -> None:
    from keras import layers

    cases = itertools.product(range(5, 13), (1, 2, 3, 5), (1, 2, 3), ("same", "valid"), (1, 2))
    tried = 0
    for size, window, stride, padding, dilation in cases:
        if dilation > 1 and (stride > 1 or (padding == "valid" and dilation * window > size)):
            continue
        layer = layers.Conv2D(1, window, stride, padding, dilation_rate=dilation)
        expected = layer.compute_output_shape((None, size, size, 1))[1]
        axis = Axis.of(size, window, stride, padding, dilation)
        assert axis.result == expected, (size, window, stride, padding, dilation)
        assert 0 <= axis.after - axis.before <= 1
        tried += 1
    assert tried > 200
