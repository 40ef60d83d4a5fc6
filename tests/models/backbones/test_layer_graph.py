"""Tests of the points at which networks can be cut, also if they contain other models."""

import sys
from types import ModuleType

import keras
import numpy as np
import pytest
from keras import layers

from imgpipe.models import backbones
from imgpipe.models.backbones import layer_graph
from imgpipe.models.errors import ConfigError
from imgpipe.models.features.extractor import FeatureExtractor
from imgpipe.models.network.classifier import backbone_of, build_features, copy_weights
from imgpipe.models.search.training_plan import training_plan
from imgpipe.models.settings.settings import Settings
from imgpipe.models.training import stages
from tests.network_settings import network_settings

_SIZE = 32
_PIXELS = np.random.default_rng(0).uniform(0, 255, (2, _SIZE, _SIZE, 3)).astype("float32")


def _backbone(name: str, side: int = 64, **choice) -> keras.Model:
    pixels = keras.Input((side, side, 3))
    return keras.Model(pixels, backbones.Backbone(name, **choice).build(pixels)[0])


@pytest.fixture(scope="module")
def lite0():
    return _backbone("efficientnet_lite0")


@pytest.fixture(scope="module")
def mobile():
    return _backbone("mobilenet_v2", weights="none")


def _network():
    """Return a model with one skip connection and two outputs at its end."""
    pixels = keras.Input((8, 8, 3))
    a = layers.Conv2D(4, 3, padding="same", name="a")(pixels)
    b = layers.ReLU(name="b")(a)
    c = layers.Conv2D(4, 3, padding="same", name="c")(b)
    d = layers.Add(name="d")([a, c])
    e = layers.GlobalAveragePooling2D(name="e")(keras.ops.abs(d))
    f = layers.Dense(2, name="f")(e)
    return keras.Model(pixels, {"features": e, "logits": f})


def test_a_skip_connection_and_a_second_output_leave_fewer_points():
    model = _network()
    assert layer_graph.cut_points(model) == ["a", "d", "e"]
    logits = keras.Model(model.input, model.outputs[1])
    assert layer_graph.cut_points(logits) == ["a", "d", "e", "f"]


def test_no_cut_is_at_a_layer_that_is_called_twice_or_between_calls_with_the_same_weights():
    pixels = keras.Input((16, 16, 3))
    act, same = keras.layers.ReLU(name="act"), keras.layers.Conv2D(3, 1, name="same")
    x = act(keras.layers.Conv2D(3, 1, name="first")(pixels))
    x = keras.layers.Conv2D(3, 1, name="between")(same(x))
    x = act(keras.layers.Conv2D(3, 1, name="last")(same(x)))
    network = keras.Model(pixels, keras.layers.Conv2D(4, 1, name="end")(x))
    assert layer_graph.cut_points(network) == ["first", "last", "end"]


@pytest.mark.slow
@pytest.mark.parametrize("network", ["lite0", "mobile"])
def test_layers_above_a_cut_point_depend_on_it_alone(network, request):
    """At each cut point, the two halves together compute what the whole network computes."""
    whole = request.getfixturevalue(network)
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    expected = whole(pixels, training=False).numpy()
    points = layer_graph.cut_points(whole)
    for point in points[:: len(points) // 6]:
        lower = layer_graph.cut_layer(whole, point).outputs[0]
        below, above = keras.Model(whole.input, lower), keras.Model(lower, whole.output)
        found = above(below(pixels, training=False), training=False).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("network", "name", "expected"),
    [
        ("lite0", "block1", "block1_project"),
        ("lite0", "block11", "block11_project"),
        ("lite0", "block14", "block14_join"),
        ("mobile", "block0", "expanded_conv_project"),
        ("mobile", "block1", "block_1_project"),
        ("mobile", "block12", "block_12_add"),
        ("mobile", "out_relu", "out_relu"),
    ],
)
def test_a_cut_is_found_by_the_name_of_a_layer_or_block(network, name, expected, request):
    assert layer_graph.cut_layer(request.getfixturevalue(network), name).operation.name == expected


def test_an_unknown_layer_is_refused_with_the_possible_cuts(lite0):
    message = r"Received: 'block2_joint'; nearest: block2_join\. .*block1_project, block2_join, bl"
    with pytest.raises(ConfigError, match=message):
        layer_graph.cut_layer(lite0, "block2_joint")
    with pytest.raises(ConfigError, match=r"Received: 'block77'"):
        layer_graph.cut_layer(lite0, "block77")


def test_a_cut_at_a_layer_without_a_feature_map_is_refused():
    with pytest.raises(ConfigError, match=r"feature map .*'e', which gives \(None, 4\).* a, d$"):
        layer_graph.cut_layer(_network(), "e")


def test_a_backbone_ends_at_its_cut():
    model = _backbone("efficientnet_lite0", cut="block11")
    assert model.output.shape == (None, 2, 2, 192)
    assert model.layers[-1].name == "block11_project"


def test_layer_names_do_not_depend_on_networks_built_before():
    def names() -> list[str]:
        network = _backbone("xception", 96, weights="none")
        return [layer.name for layer in network.layers[1:]]

    first = names()
    assert first == names()
    assert "conv2d" in first and "add" in first


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


@pytest.fixture
def settings(request, monkeypatch) -> Settings:
    """Return the settings of an own network that the function in `request.param` builds."""
    # By the name, since a network is built once in a process, and this module has no file.
    module = ModuleType(f"networks_to_cut{request.param.__name__}")
    module.build = lambda side: request.param(side)
    module.build.__module__ = module.__name__  # else its code would be that of the tests
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return network_settings(
        builder=f"{module.__name__}:build",
        weights="none",
        freeze="all",
        image_size=_SIZE,
    )


@pytest.mark.parametrize(
    ("settings", "points"),
    [(_sequence, ["scaled"]), (_called, ["scaled", "base"])],
    ids=["a sequence", "a call"],
    indirect=["settings"],
)
def test_a_network_that_contains_a_model_can_be_cut_beside_it(settings, points):
    """At each cut, the stored activations give what the whole network gives."""
    network = backbone_of(settings)
    assert layer_graph.map_points(network) == points
    plan = training_plan(settings, network)
    assert plan is not None and plan.cut in points and 0 < plan.share <= 1
    whole = stages.network(3, settings)
    for cut in points:
        extractor = FeatureExtractor(settings, "float32", cut).build()
        above = stages.network(3, settings, cut)
        copy_weights(whole, above, common=True)
        expected = whole(_PIXELS, training=False)
        answers = above(extractor(_PIXELS), training=False)
        np.testing.assert_allclose(answers, expected, atol=1e-5)
        assert above.trainable_weights


@pytest.mark.parametrize("settings", [_called], ids=["a call"], indirect=True)
def test_a_cut_above_all_weights_is_refused(settings):
    message = r"below others with weights.*: scaled, base\. Received: 'last'"
    with pytest.raises(ConfigError, match=message):
        layer_graph.layer_at(backbone_of(settings), "last")


@pytest.mark.parametrize(
    ("settings", "names", "axes"),
    [
        ({"backbone": "mobilenet_v2"}, 3, 64),
        ({"backbone": "conv_4_8_16_32"}, 3, 16),
        ({"backbone": "conv_4", "image_size": 16}, 2, 4),
        ({"backbone": "efficientnet_b0"}, 3, 64),
        ({"features": "conv1", "backbone": "conv_4_8"}, 2, 4),
    ],
    ids=str,
)
def test_a_head_reads_the_widest_maps_at_two_thirds_and_five_sixths(settings, names, axes):
    given = {"weights": "none", "freeze": "all", "features": "covariance", "image_size": 64}
    given |= settings
    _, maps, features = build_features(network_settings(**given))
    assert len(maps) == names
    assert features.shape[-1] == maps[0].shape[-1] + names * axes * (axes + 1) // 2
    sides = [one.shape[1] for one in maps]
    assert sides == sorted(sides), "the last map comes first"
    assert min(sides) > 1, "what squeezes and excites is no map"
