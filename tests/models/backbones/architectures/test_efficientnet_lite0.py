"""Tests of golden logits of known photographs, and of folding BatchNorm.

A wrong normalisation or padding leaves the top class the same most of the time, so the tests
compare numbers.
"""

from __future__ import annotations

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
from imgpipe.models.backbones.architectures import efficientnet_lite0 as lite0
from imgpipe.models.backbones.torch_legacy import parse
from imgpipe.models.errors import ResourceError, UnsafeWeightsError

#: Highest logits (class: value) of scikit-image's photographs, from an independent implementation.
GOLDEN = {
    "chelsea": {282: 9.215, 285: 9.155, 281: 8.381},
    "coffee": {967: 11.402, 968: 7.252},
}


@pytest.fixture(scope="module")
def network():
    """Return a Keras model from pixels to the feature map, at 224 px."""
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


def test_another_weights_file_is_refused() -> None:
    other = dataclasses.replace(lite0.WEIGHTS, sha256="0" * 64)
    with pytest.raises(ResourceError, match="not the weights file this code was tested with"):
        registry.checked_sha256(other)


def test_a_missing_package_says_what_to_do() -> None:
    other = dataclasses.replace(lite0.WEIGHTS, package="no_such_package_here")
    with pytest.raises(ResourceError, match="uv sync"):
        other.content()


@pytest.mark.parametrize("trainable", [False, True])
def test_building_directly_gives_the_network_that_copying_gives(trainable) -> None:
    """Both have the same layers, settings and weights; copying takes twice the time."""
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


@pytest.mark.parametrize("function", [os.system, eval, io.open, defaultdict])
def test_nothing_but_tensors_is_loaded_from_a_file_of_torch(function, tmp_path) -> None:
    class Evil:
        """An object whose pickle calls the function when it is loaded."""

        def __reduce__(self) -> tuple:
            return function, (f"touch {tmp_path / 'canary'}",)

    with pytest.raises(UnsafeWeightsError, match=r"refuses to load \w+\.\w+"):
        parse(pickle.dumps(Evil()))
    assert not (tmp_path / "canary").exists()
