"""Tests that folding BatchNorm keeps what a network computes, for every kind of network."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from imgpipe.models.backbones.network_copy import name_stably, rebuild

_RELATIVE = 1e-4  # tolerance, relative to the largest value of the feature map
#: Ranges of random BatchNorm weights, which change values clearly but neither let them vanish nor
#: explode over a hundred layers.
_STATISTICS = {
    "gamma": (0.3, 1.0),
    "beta": (-0.3, 0.3),
    "moving_mean": (-0.3, 0.3),
    "moving_variance": (0.3, 1.5),
}


def _random_statistics(model) -> None:
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            values = []
            for weight in layer.weights:
                low, high = _STATISTICS[weight.name]
                values.append(random.uniform(low, high, weight.shape).astype("float32"))
            layer.set_weights(values)


def _check(model, size: int = 96, kept: int = 0) -> None:
    """Assert that the folded network computes the same map; `kept` BatchNorms become a scale."""
    _random_statistics(model)
    name_stably(model)
    pixels = keras.Input((size, size, 3))
    folded = keras.Model(pixels, rebuild(model, pixels, trainable=False, fold=True)[0])
    kinds = [type(layer) for layer in folded.layers]
    assert keras.layers.BatchNormalization not in kinds
    added = kinds.count(keras.layers.Rescaling) - sum(
        isinstance(layer, keras.layers.Rescaling) for layer in model.layers
    )
    assert added == kept
    assert not folded.trainable_weights
    random = np.random.default_rng(1)
    inside = any(isinstance(layer, keras.layers.Rescaling) for layer in model.layers)
    low, high = (0, 255) if inside else (-1, 1)
    images = random.uniform(low, high, (2, size, size, 3)).astype("float32")
    expected = model(images, training=False).numpy()
    found = folded(images, training=False).numpy()
    assert expected.std() > 0
    np.testing.assert_allclose(found, expected, atol=_RELATIVE * np.abs(expected).max(), rtol=0)


def _application(name: str, size: int = 96, **settings):
    """Return a network of `keras.applications` with random weights and without its head."""
    function = getattr(keras.applications, name)
    return function(weights=None, include_top=False, input_shape=(size, size, 3), **settings)


@pytest.mark.parametrize(
    ("name", "size", "kept"),
    [
        ("MobileNetV2", 96, 0),
        *(
            pytest.param(*row, marks=pytest.mark.slow)
            for row in (
                ("ResNet50V2", 64, 17),  # BatchNorm and activation come before the convolution
                ("EfficientNetB0", 64, 0),  # its own normalisation, and squeeze-excite blocks
                ("InceptionV3", 96, 0),
                ("Xception", 96, 0),  # separable convolutions
                ("ConvNeXtTiny", 64, 0),  # no BatchNorm, but LayerNorm, scales and dense layers
                ("DenseNet121", 64, 62),
                ("NASNetMobile", 64, 4),
                ("MobileNetV3Small", 64, 0),
                ("InceptionResNetV2", 96, 0),
            )
        ),
    ],
)
def test_applications_are_folded(name: str, size: int, kept: int) -> None:
    _check(_application(name, size), size, kept)


def test_a_batch_norm_that_cannot_be_folded_becomes_a_layer_of_its_own() -> None:
    """An activation or a second reader of the convolution's output prevents folding."""
    pixels = keras.Input((16, 16, 3))
    a = layers.Conv2D(4, 3, activation="relu", name="active")(pixels)
    a = layers.BatchNormalization(name="after_relu")(a)
    b = layers.Conv2D(4, 3, padding="same", name="read_twice")(a)
    c = layers.BatchNormalization(name="one_reader")(b)
    d = layers.Add(name="other_reader")([b, c])
    _check(keras.Model(pixels, d), 16, kept=2)


_GROUPED = {"kind": "Conv2D", "filters": 6, "groups": 3, "use_bias": True}


@pytest.mark.parametrize(
    ("settings", "norm"),
    [
        *((_GROUPED, norm) for norm in ({}, {"scale": False}, {"center": False})),
        ({"kind": "Conv2D", "filters": 6, "use_bias": False, "dilation_rate": 2}, {}),
        ({"kind": "DepthwiseConv2D", "depth_multiplier": 2, "use_bias": True}, {}),
        ({"kind": "SeparableConv2D", "filters": 5, "depth_multiplier": 2}, {}),
    ],
)
def test_batch_norm_is_folded_into_every_kind_of_convolution(settings: dict, norm: dict) -> None:
    settings = dict(settings)
    kind = getattr(layers, settings.pop("kind"))
    pixels = keras.Input((16, 16, 3))
    x = kind(kernel_size=3, bias_initializer="normal", **settings)(pixels)
    _check(keras.Model(pixels, layers.BatchNormalization(**norm)(x)), 16)


def test_batch_norm_is_not_folded_into_a_class_derived_from_a_convolution() -> None:
    """The class may use its kernel in another way: this one standardises it."""

    class Standardised(layers.Conv2D):
        def call(self, x):
            deviation = ops.std(self.kernel, axis=(0, 1, 2), keepdims=True)
            kernel = self.kernel / (deviation + 1e-5)
            return ops.conv(x, kernel, padding="same")

    pixels = keras.Input((16, 16, 3))
    x = Standardised(4, 3, padding="same", use_bias=False)(pixels)
    _check(keras.Model(pixels, layers.BatchNormalization()(x)), 16, kept=1)


def test_without_folding_the_copy_equals_the_network() -> None:
    model = _application("MobileNetV2", 64, alpha=0.35)
    _random_statistics(model)
    pixels = keras.Input((64, 64, 3))
    copy = keras.Model(pixels, rebuild(model, pixels, trainable=True, fold=False)[0])
    assert [type(layer) for layer in copy.layers] == [type(layer) for layer in model.layers]
    assert all(np.array_equal(*pair) for pair in zip(copy.weights, model.weights, strict=True))
    images = np.random.default_rng(1).uniform(-1, 1, (1, 64, 64, 3)).astype("float32")
    np.testing.assert_array_equal(copy(images, training=False), model(images, training=False))
