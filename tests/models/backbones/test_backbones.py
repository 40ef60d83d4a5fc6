"""Tests of the registry of backbones: valid names, refused settings, and fingerprints."""

import os
from dataclasses import replace

import keras
import numpy as np
import pytest

from imgpipe.models import backbones
from imgpipe.models.backbones import presets
from imgpipe.models.backbones.architectures.keras_applications import APPLICATIONS
from imgpipe.models.errors import ConfigError, ResourceError
from tests.models.backbones import hub_presets


def _model(backbone: backbones.Backbone, trainable: bool) -> keras.Model:
    pixels = keras.Input((64, 64, 3))
    return keras.Model(pixels, backbone.build(pixels, trainable))


def test_every_backbone_describes_itself():
    for name in backbones.registry.names():
        backbone = backbones.Backbone(name, weights="none")
        assert backbone.name == name
        assert 28 <= backbone.image_size <= 600
        assert len(backbone.key()) == 64
        assert not backbone.trained


def test_every_application_of_keras_is_registered():
    functions = {name for name in dir(keras.applications) if name[0].isupper()}
    assert {application.function for application in APPLICATIONS.values()} == functions


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet"}, r"unknown backbone.*efficientnet_lite0.*Received: 'resnet'"),
        ({"name": "MobileNetV2"}, "nearest: mobilenet_v2"),
        ({"name": "conv_0_8"}, "unknown backbone"),
        ({"name": "inception_v3", "weights": "imagnet"}, "Received: 'imagnet'; nearest: imagenet"),
        ({"name": "conv_16_32_64"}, 'has no ImageNet weights.*weights = "none"'),
        ({"name": "vgg16", "weights_sha256": "0" * 64}, "beside weights that are a file"),
        ({"name": "vgg16", "weights": "a.h5", "weights_sha256": "12"}, "64 hexadecimal digits"),
    ],
)
def test_an_invalid_setting_is_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        backbones.Backbone(**arguments)


def test_the_fingerprint_changes_with_every_setting_that_changes_the_feature_map(tmp_path):
    one, two = tmp_path / "one.weights.h5", tmp_path / "two.weights.h5"
    one.write_bytes(b"one")
    two.write_bytes(b"two")
    base = backbones.Backbone("mobilenet_v2")
    others = [
        replace(base, name="mobilenet"),
        replace(base, weights="none"),
        replace(base, weights="none", seed=1),
        replace(base, weights=str(one)),
        replace(base, weights=str(two)),
        replace(base, cut="block11"),
    ]
    assert len({base.key(), *(other.key() for other in others)}) == len(others) + 1
    assert replace(base, seed=1).key() == base.key(), "of trained weights"


def test_the_fingerprint_depends_on_the_content_of_the_weights_file(tmp_path):
    here, there = tmp_path / "here.h5", tmp_path / "there.weights.h5"
    here.write_bytes(b"same")
    there.write_bytes(b"same")
    first = backbones.Backbone("vgg16", weights=str(here))
    assert first.key() == backbones.Backbone("vgg16", weights=str(there)).key()
    before = first.key()
    here.write_bytes(b"else")  # the size is the same as before
    os.utime(here, ns=(1, 1))
    assert first.key() != before


def test_a_missing_file_and_a_wrong_digest_are_named(tmp_path):
    path = tmp_path / "weights.h5"
    backbone = backbones.Backbone("vgg16", weights=str(path), weights_sha256="0" * 64)
    with pytest.raises(ResourceError, match=r"cannot read .*weights\.h5: No such file"):
        backbone.key()
    path.write_bytes(b"something")
    with pytest.raises(ResourceError, match=r"Expected SHA-256 0000.*Received: 3fc9b6"):
        backbone.key()


@pytest.mark.parametrize(
    ("name", "trainable"),
    [
        pytest.param("conv_16_32_64", True, marks=pytest.mark.slow),
        pytest.param("mobilenet_v2", False, marks=pytest.mark.slow),
        pytest.param("efficientnet_lite0", True, marks=pytest.mark.slow),
        ("hub", True),
    ],
)
def test_the_same_seed_gives_the_same_weights_at_each_build(name, trainable, tmp_path):
    if name == "hub":
        if not presets.installed():
            pytest.skip("KerasHub is not installed (the extra hub)")
        name = f"hub:{hub_presets.write('vit', tmp_path)}"

    def weights(seed: int) -> list[np.ndarray]:
        model = _model(backbones.Backbone(name, weights="none", seed=seed), trainable)
        assert all(layer.trainable == trainable for layer in model.layers if layer.weights)
        return model.get_weights()

    first, again, other = weights(3), weights(3), weights(4)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    ("name", "trainable", "norms"),
    [
        ("mobilenet_v2", True, 52),
        ("mobilenet_v2", False, 0),
        ("efficientnet_lite0", True, 49),
        ("efficientnet_lite0", False, 0),
        ("conv_16_32_64", True, 0),
    ],
)
def test_batch_normalisation_is_kept_only_if_the_backbone_trains(name, trainable, norms):
    model = _model(backbones.Backbone(name, weights="none"), trainable)
    found = [one for one in model.layers if isinstance(one, keras.layers.BatchNormalization)]
    assert len(found) == norms
    assert bool(model.trainable_weights) == trainable
    assert all(layer.trainable == trainable for layer in model.layers if layer.weights)
