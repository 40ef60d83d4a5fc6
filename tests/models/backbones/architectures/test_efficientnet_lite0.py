"""Tests of golden logits of known photographs, and of folding BatchNorm.

A wrong normalisation or padding leaves the top class the same most of the time, so the tests
compare numbers.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from imgpipe.models import backbones
from imgpipe.models.backbones.architecture import checked_sha256
from imgpipe.models.backbones.architectures import efficientnet_lite0 as lite0
from imgpipe.models.errors import ResourceError

#: Highest logits (class: value) of scikit-image's photographs, from an independent implementation.
GOLDEN = {
    "chelsea": {282: 9.215, 285: 9.155, 281: 8.381},
    "coffee": {967: 11.402, 968: 7.252},
}


@pytest.fixture(scope="module")
def network():
    """Return a Keras model from pixels to the feature map, at 224 px."""
    import keras

    pixels = keras.Input((224, 224, 3))
    return keras.Model(pixels, backbones.get(lite0.NAME).build(pixels))


def _photograph(name: str) -> np.ndarray:
    """Return a photograph as float32 [1, 224, 224, 3].

    The centre crop of 224/256 of the shorter side is resized bicubically.
    """
    from skimage import data

    image = Image.fromarray(getattr(data, name)())
    side = int(224 / 256 * min(image.size))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    crop = image.crop((left, top, left + side, top + side))
    return np.asarray(crop.resize((224, 224), Image.Resampling.BICUBIC), np.float32)[None]


@pytest.mark.parametrize("name", GOLDEN)
def test_logits_of_photographs_equal_golden_values(network, name: str) -> None:
    weights = lite0.read_weights()
    features = network(_photograph(name), training=False).numpy().mean(axis=(1, 2))
    logits = (features @ weights["_fc.weight"].T + weights["_fc.bias"])[0]
    highest = logits.argsort()[::-1][: len(GOLDEN[name])]
    assert highest.tolist() == list(GOLDEN[name])
    np.testing.assert_allclose(logits[highest], list(GOLDEN[name].values()), atol=1e-2)


def test_folding_equals_batch_normalisation(network) -> None:
    pixels = _photograph("chelsea")
    expected = _unfolded(pixels)
    found = network(pixels, training=False).numpy()
    assert found.shape == (1, 7, 7, lite0.FEATURE_DIM)
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())


def _unfolded(pixels: np.ndarray) -> np.ndarray:
    """Compute the feature map with convolution, BatchNorm and ReLU6 as in the weights file."""
    import tensorflow as tf

    weights = lite0.read_weights()

    def unit(x, conv: str, norm: str, stride: int = 1, depthwise=False, active=True):
        kernel = weights[f"{conv}.weight"].transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
        function = tf.nn.depthwise_conv2d if depthwise else tf.nn.conv2d
        x = function(x, kernel, [1, stride, stride, 1], "SAME")
        parts = ("running_mean", "running_var", "bias", "weight")
        x = tf.nn.batch_normalization(x, *(weights[f"{norm}.{part}"] for part in parts), 1e-3)
        return tf.nn.relu6(x) if active else x

    x = unit((pixels - 127) / 128, "_conv_stem", "_bn0", 2)
    index = 0
    for repeats, _, stride, expand, _ in lite0.STAGES:
        for repeat in range(repeats):
            at, entry = f"_blocks.{index}", x
            if expand > 1:
                x = unit(x, f"{at}._expand_conv", f"{at}._bn0")
            x = unit(
                x, f"{at}._depthwise_conv", f"{at}._bn1", 1 if repeat else stride, depthwise=True
            )
            x = unit(x, f"{at}._project_conv", f"{at}._bn2", active=False)
            x = x + entry if repeat else x
            index += 1
    return unit(x, "_conv_head", "_bn1").numpy()


def test_every_layer_is_frozen(network) -> None:
    assert not network.trainable_weights


def test_images_of_other_sizes_are_accepted() -> None:
    import keras

    pixels = keras.Input((96, 96, 3))
    assert backbones.get(lite0.NAME).build(pixels).shape == (None, 3, 3, lite0.FEATURE_DIM)


def test_another_weights_file_is_refused() -> None:
    other = dataclasses.replace(lite0.WEIGHTS, sha256="0" * 64)
    with pytest.raises(ResourceError, match="not the weights file this code was tested with"):
        checked_sha256(other)


def test_a_missing_package_says_what_to_do() -> None:
    other = dataclasses.replace(lite0.WEIGHTS, package="no_such_package_here")
    with pytest.raises(ResourceError, match="uv sync"):
        other.content()


@pytest.mark.parametrize("trainable", [False, True])
def test_building_directly_gives_the_network_that_copying_gives(trainable) -> None:
    """Both have the same layers, settings and weights; copying takes twice the time."""
    import keras

    from imgpipe.models.backbones.network_copy import rebuild

    backbone = backbones.get(lite0.NAME)

    def built(build):
        pixels = keras.Input((64, 64, 3), dtype="float32", name="pixels")
        return keras.Model(pixels, build(pixels))

    source = lite0.source(backbone, (64, 64))
    direct = built(lambda pixels: backbone.build(pixels, trainable))
    copied = built(lambda pixels: rebuild(source, pixels, trainable, fold=True))
    settings = [[layer.get_config() for layer in one.layers] for one in (direct, copied)]
    assert settings[0] == settings[1]
    assert len(direct.trainable_weights) == len(copied.trainable_weights)
    for here, there in zip(direct.get_weights(), copied.get_weights(), strict=True):
        np.testing.assert_array_equal(here, there)
