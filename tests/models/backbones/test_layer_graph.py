"""Tests of the points at which networks can be cut."""

from __future__ import annotations

import numpy as np
import pytest

from imgpipe.models import backbones
from imgpipe.models.backbones import layer_graph
from imgpipe.models.errors import ConfigError


@pytest.fixture(scope="module")
def lite0():
    """Return the output tensor of EfficientNet-Lite0 for images of 64 px."""
    import keras

    return backbones.get("efficientnet_lite0").build(keras.Input((64, 64, 3)))


@pytest.fixture(scope="module")
def mobile():
    """Return the output tensor of MobileNetV2 with random weights for images of 64 px."""
    import keras

    backbone = backbones.get("mobilenet_v2", weights="none", width=0.35)
    return backbone.build(keras.Input((64, 64, 3)))


def _network():
    """Return a model with one skip connection and two outputs at its end."""
    import keras
    from keras import layers

    pixels = keras.Input((8, 8, 3))
    a = layers.Conv2D(4, 3, padding="same", name="a")(pixels)
    b = layers.ReLU(name="b")(a)
    c = layers.Conv2D(4, 3, padding="same", name="c")(b)
    d = layers.Add(name="d")([a, c])
    e = layers.GlobalAveragePooling2D(name="e")(keras.ops.abs(d))
    f = layers.Dense(2, name="f")(e)
    return keras.Model(pixels, {"features": e, "logits": f})


def test_a_skip_connection_and_a_second_output_leave_fewer_points() -> None:
    model = _network()
    assert backbones.cut_points(model) == ["a", "d", "e"]
    assert backbones.cut_points(model.outputs[1]) == ["a", "d", "e", "f"]


def test_no_cut_is_at_a_layer_that_is_called_twice_or_between_calls_with_the_same_weights() -> None:
    import keras

    pixels = keras.Input((16, 16, 3))
    act, same = keras.layers.ReLU(name="act"), keras.layers.Conv2D(3, 1, name="same")
    x = act(keras.layers.Conv2D(3, 1, name="first")(pixels))
    x = keras.layers.Conv2D(3, 1, name="between")(same(x))
    x = act(keras.layers.Conv2D(3, 1, name="last")(same(x)))
    network = keras.Model(pixels, keras.layers.Conv2D(4, 1, name="end")(x))
    assert backbones.cut_points(network) == ["first", "last", "end"]


def test_a_skip_over_all_layers_leaves_no_cut_point_before_its_end() -> None:
    import keras
    from keras import layers

    pixels = keras.Input((8, 8, 3))
    x = layers.Conv2D(3, 3, padding="same", name="a")(pixels)
    x = layers.Conv2D(3, 3, padding="same", name="b")(x)
    x = layers.Concatenate(name="c")([pixels, x])
    assert backbones.cut_points(x) == ["c"]


@pytest.mark.slow
@pytest.mark.parametrize("network", ["lite0", "mobile"])
def test_layers_above_a_cut_point_depend_on_it_alone(network: str, request) -> None:
    """At each cut point, the two halves together compute what the whole network computes."""
    import keras

    end = request.getfixturevalue(network)
    whole = keras.Model(layer_graph.nodes([end])[0].outputs[0], end)
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    expected = whole(pixels, training=False).numpy()
    points = backbones.cut_points(end)
    for point in points[:: len(points) // 6]:
        lower = layer_graph.feature_map(end, point)
        below, above = keras.Model(whole.input, lower), keras.Model(lower, end)
        found = above(below(pixels, training=False), training=False).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_layers_beside_a_skip_connection_are_not_cut_points(lite0) -> None:
    import keras

    points = backbones.cut_points(lite0)
    assert "block2_join" in points and "block2_project" not in points
    lower = layer_graph.feature_map(lite0, "block2_project")
    with pytest.raises(ValueError, match="is not connected to `inputs`"):
        keras.Model(lower, lite0)


@pytest.mark.parametrize(
    ("network", "name", "expected"),
    [
        ("lite0", "block0", "block0_project"),
        ("lite0", "block1", "block1_project"),
        ("lite0", "block11", "block11_project"),
        ("lite0", "block14", "block14_join"),
        ("lite0", "head", "head"),
        ("lite0", "block14_expand", "block14_expand"),
        ("mobile", "block0", "expanded_conv_project"),
        ("mobile", "block1", "block_1_project"),
        ("mobile", "block12", "block_12_add"),
        ("mobile", "block_16", "block_16_project"),
        ("mobile", "out_relu", "out_relu"),
    ],
)
def test_a_cut_is_found_by_the_name_of_a_layer_or_block(
    network: str, name: str, expected: str, request
) -> None:
    assert backbones.find_cut(request.getfixturevalue(network), name) == expected


def test_an_unknown_layer_is_refused_with_the_possible_cuts(lite0) -> None:
    message = r"Received: 'block2_joint'; nearest: block2_join\. .*block1_project, block2_join, bl"
    with pytest.raises(ConfigError, match=message):
        backbones.find_cut(lite0, "block2_joint")
    with pytest.raises(ConfigError, match=r"Received: 'block77'"):
        backbones.find_cut(lite0, "block77")


def test_a_cut_at_a_layer_without_a_feature_map_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"feature map .*'e', which gives \(None, 4\).* a, d$"):
        backbones.find_cut(_network(), "e")


def test_a_backbone_ends_at_its_cut() -> None:
    import keras

    backbone = backbones.get("efficientnet_lite0", cut="block11")
    pixels = keras.Input((64, 64, 3))
    model = keras.Model(pixels, backbone.build(pixels))
    assert model.output.shape == (None, 2, 2, 192)
    assert model.layers[-1].name == "block11_project"


def test_a_cut_at_a_folded_batch_norm_is_its_convolutions_output() -> None:
    import keras

    pixels = keras.Input((64, 64, 3))
    norm, conv = (
        keras.Model(
            pixels, backbones.get("mobilenet_v2", weights="none", cut=cut).build(pixels)
        ).predict(np.full((1, 64, 64, 3), 200.0), verbose=0)
        for cut in ("block_1_project_BN", "block_1_project")
    )
    np.testing.assert_allclose(norm * np.sqrt(1 + 1e-3), conv, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_inception_can_be_cut_where_the_course_cuts_it() -> None:
    import keras

    backbone = backbones.get("inception_v3", weights="none", cut="mixed7")
    end = backbone.build(keras.Input((150, 150, 3)))
    assert end.shape == (None, 7, 7, 768)
    points = backbones.cut_points(end)
    assert [point for point in points if point.startswith("mixed")] == [
        f"mixed{number}" for number in range(8)
    ]
    assert "conv2d_5" not in points  # a layer inside a branch


def test_layer_names_do_not_depend_on_networks_built_before() -> None:
    import keras

    def names() -> list[str]:
        pixels = keras.Input((96, 96, 3))
        end = backbones.get("inception_v3", weights="none", cut="mixed2").build(pixels)
        return [layer.name for layer in keras.Model(pixels, end).layers[1:]]

    first = names()
    assert first == names()
    assert "conv2d" in first and "max_pooling2d" in first
