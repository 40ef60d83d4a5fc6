"""Tests of cuts for fine-tuning, on networks that contain a model or have hardly a layer."""

from __future__ import annotations

import sys
from types import ModuleType

import keras
import numpy as np
import pytest
from keras import layers

from imgpipe.models.errors import ConfigError
from imgpipe.models.features.extractor import build_features
from imgpipe.models.network import activation_images, cuts
from imgpipe.models.search.ways import backbone_of, ways
from imgpipe.models.settings import ModelSettings
from imgpipe.models.training import stages

_SIZE = 32
_PIXELS = np.random.default_rng(0).uniform(0, 255, (2, _SIZE, _SIZE, 3)).astype("float32")


def _base(side: int | None) -> keras.Model:
    pixels = keras.Input((side, side, 3))
    x = layers.Conv2D(8, 3, strides=4)(pixels)
    return keras.Model(pixels, layers.BatchNormalization()(x), name="base")


def _sequence(side: int) -> keras.Model:
    pixels = keras.Input((side, side, 3))
    return keras.Sequential(
        [pixels, layers.Rescaling(1 / 255, name="scaled"), _base(side), layers.Dropout(0.2)]
    )


def _called(side: int) -> keras.Model:
    pixels = keras.Input((side, side, 3))
    x = _base(None)(layers.Rescaling(1 / 255, name="scaled")(pixels), training=False)
    return keras.Model(pixels, layers.Conv2D(4, 1, name="last")(x))


def _single(side: int) -> keras.Model:
    pixels = keras.Input((side, side, 3))
    return keras.Model(pixels, layers.Conv2D(4, 3, strides=4, name="only")(pixels))


class _Subclassed(keras.Model):
    def __init__(self, **settings) -> None:
        super().__init__(**settings)
        self.inner = layers.Conv2D(8, 3)

    def call(self, x):
        return self.inner(x)


def _calling_its_own_class(side: int) -> keras.Model:
    pixels = keras.Input((side, side, 3))
    x = layers.Conv2D(8, 3, strides=2, name="first")(pixels)
    return keras.Model(pixels, layers.Conv2D(4, 1, name="last")(_Subclassed()(x)))


@pytest.fixture
def settings(request, monkeypatch) -> ModelSettings:
    """Return the settings of an own network that the function in `request.param` builds."""
    module = ModuleType("networks_to_cut")
    module.build = request.param
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return ModelSettings.from_mapping(
        {
            "builder": f"{module.__name__}:build",
            "weights": "none",
            "freeze": "all",
            "image_size": _SIZE,
        }
    )


@pytest.mark.parametrize(
    ("settings", "points"),
    [(_sequence, ["scaled"]), (_called, ["scaled", "base"])],
    ids=["a sequence", "a call"],
    indirect=["settings"],
)
def test_a_network_that_contains_a_model_can_be_cut_beside_it(settings, points) -> None:
    """At each cut, the stored activations give what the whole network gives."""
    network = backbone_of(settings)
    assert cuts.map_points(network) == points
    found = ways(settings, network)
    assert {way.cut for way in found} <= set(points)
    assert all(0 < way.share <= 1 for way in found)
    whole = stages.network(3, settings)
    for cut in (*points, cuts.USUAL):
        extractor = build_features(settings.backbone_spec(), _SIZE, "float32", tap=cut)
        above = stages.network(3, settings, cut, whole)
        expected = whole(_PIXELS, training=False)
        answers = above(extractor(_PIXELS)[1], training=False)
        np.testing.assert_allclose(answers, expected, atol=1e-5)
        assert above.trainable_weights


@pytest.mark.parametrize("settings", [_calling_its_own_class], ids=["a class"], indirect=True)
def test_ways_are_found_in_a_network_that_contains_a_model_of_its_own_class(settings) -> None:
    found = ways(settings, backbone_of(settings))
    assert found and all(0 < way.share <= 1 for way in found)


@pytest.mark.parametrize("settings", [_called], ids=["a call"], indirect=True)
def test_the_maps_of_a_model_inside_the_network_are_shown(settings) -> None:
    network = backbone_of(settings)
    names = activation_images.choose(network, ["all"])
    assert {
        name: a.shape for name, a in activation_images.outputs(network, names, _PIXELS[0]).items()
    } == {
        "scaled": (32, 32, 3),
        "base": (8, 8, 8),
        "last": (8, 8, 4),
    }


@pytest.mark.parametrize("settings", [_single], ids=["one layer"], indirect=True)
def test_nothing_is_tried_above_the_only_layer(settings) -> None:
    network = backbone_of(settings)
    assert cuts.map_points(network) == ways(settings, network) == []
    with pytest.raises(ConfigError, match="no layer above which layers could be trained"):
        cuts.layer_at(network, cuts.USUAL)


@pytest.mark.parametrize("settings", [_called], ids=["a call"], indirect=True)
def test_a_cut_above_all_weights_is_refused(settings) -> None:
    message = r"below others with weights.*: scaled, base\. Received: 'last'"
    with pytest.raises(ConfigError, match=message):
        cuts.layer_at(backbone_of(settings), "last")
