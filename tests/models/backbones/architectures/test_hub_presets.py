"""Tests of networks of KerasHub: they answer as in KerasHub, and everything works on their maps."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from imgpipe.models import backbones, preprocess
from imgpipe.models.backbones import layer_graph, presets
from imgpipe.models.errors import ConfigError
from imgpipe.models.export.saved_model import export
from imgpipe.models.machine import process
from imgpipe.models.network import network_file
from imgpipe.models.network.classifier import backbone_of, build_classifier
from imgpipe.models.search.training_plan import training_plan
from imgpipe.models.settings.settings import Settings
from imgpipe.models.training import fast_layers
from imgpipe.models.training.stages import network
from tests.images import encoded, soft
from tests.models.backbones import hub_presets
from tests.network_settings import network_settings

pytestmark = pytest.mark.skipif(
    not presets.installed(), reason="KerasHub is not installed (the extra hub)"
)

_WITH_CLASS_TOKEN = ("dinov2", "dinov3", "vit", "deit", "siglip", "clip", "metaclip2")
#: One family with a class token and one without. The others work in the same way.
_USUAL = ("dinov2", "resnet")
_IMAGES = [encoded(soft(seed, (90, 70)), "JPEG") for seed in range(3)]
_CLASSES = ("a", "b", "c")


def _case(family: str, *others: str):
    """Return the parameters of a test, which is slow unless the family is one of the usual ones."""
    return pytest.param(family, *others, marks=() if family in _USUAL else pytest.mark.slow)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("presets")


def _settings(family: str, folder: Path, **settings) -> Settings:
    return network_settings(backbone=f"hub:{hub_presets.write(family, folder)}", **settings)


def _expected(preset: Path, size: int, pixels: np.ndarray) -> np.ndarray:
    import keras_hub

    sized = {"image_shape": (size, size, 3)} if preset.name == "dinov2" else {}
    whole = keras_hub.models.Backbone.from_preset(str(preset), **sized)
    network = getattr(whole, "vision_encoder", whole)
    shown = keras_hub.layers.ImageConverter.from_preset(str(preset))(pixels)
    named = network.input
    found = network(dict.fromkeys(named, shown) if isinstance(named, dict) else shown)
    return np.asarray(found["stage3"] if isinstance(found, dict) else found)


@pytest.mark.parametrize("family", [_case(family) for family in hub_presets.FAMILIES])
def test_a_network_answers_as_in_keras_hub(family: str, folder: Path) -> None:
    preset = hub_presets.write(family, folder)
    backbone = backbones.Backbone(f"hub:{preset}")
    size = backbone.image_size
    assert size == hub_presets.FAMILIES[family]
    pixels = np.stack([preprocess.decode(image, size).numpy() for image in _IMAGES])
    entry = keras.Input((size, size, 3))
    maps = keras.Model(entry, backbone.build(entry))(pixels)
    maps = [np.asarray(one) for one in (maps if isinstance(maps, list) else [maps])]
    assert len(maps) == 1 + backbone.class_token == 1 + (family in _WITH_CLASS_TOKEN)
    expected = _expected(preset, size, pixels)
    count, height, width, channels = maps[0].shape
    places = height * width
    if family == "siglip":  # its answer is that of the head, which takes the place of the token
        np.testing.assert_allclose(maps[1][:, 0, 0], expected, atol=1e-5)
        return
    tokens = expected.reshape(count, -1, channels)
    np.testing.assert_allclose(maps[0].reshape(count, places, -1), tokens[:, -places:], atol=1e-5)
    if backbone.class_token:
        np.testing.assert_allclose(maps[1][:, 0, 0], tokens[:, 0], atol=1e-5)


@pytest.mark.parametrize(
    ("family", "features"),
    [
        *(_case(family, "class_token") for family in _WITH_CLASS_TOKEN),
        pytest.param("dinov2", "tokens", marks=pytest.mark.slow),
        pytest.param("dinov2", "block1_map,block0_map", marks=pytest.mark.slow),
        _case("swin", "covariance"),
        _case("hgnet", "covariance"),
        ("resnet", "average"),
    ],
)
def test_what_is_served_explained_and_read_again_is_what_was_trained(
    family: str, features: str, folder: Path, tmp_path: Path
) -> None:
    settings, version = _settings(family, folder, features=features), tmp_path / "1"
    classifier = build_classifier(None, _CLASSES, settings, temperature=1.3)
    export(classifier, str(version))
    network_file.save(classifier, settings, str(version))
    expected = classifier.probabilities(_IMAGES)
    served = tf.saved_model.load(str(version)).signatures
    found = served["serving_default"](image_bytes=tf.constant(_IMAGES))
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-6)
    cam = served["cam"](image_bytes=tf.constant(_IMAGES))["cam"].numpy()
    assert cam.ndim == 3 and cam.shape[1] == cam.shape[2] > 1
    assert (cam.std(axis=(1, 2)) > 0).any(), "it shows places, also for a class token"
    again = network_file.load(version)
    np.testing.assert_allclose(again.probabilities(_IMAGES), expected, atol=1e-6)


@pytest.mark.parametrize("family", [_case(family) for family in ("dinov2", "dinov3", "swin")])
def test_the_layers_above_a_block_can_be_trained(family: str, folder: Path) -> None:
    settings = _settings(family, folder).with_one_block
    network = backbone_of(settings)
    plan = training_plan(settings, network)
    assert plan is not None and 0 < plan.share < 1
    assert any(name.startswith("block") for name in layer_graph.map_points(network))
    cut = "block0" if family != "swin" else "block0_map"
    found = layer_graph.layers_above(network, cut)
    assert {"block1"} <= {layer.name for layer in found}
    assert "block0" not in {layer.name for layer in found}
    above = [layer_graph.share_above(network, name) for name in (cut, "normalise")]
    assert above[0] < above[1]


def test_a_class_token_is_asked_only_of_a_network_that_has_one(folder: Path) -> None:
    with pytest.raises(ConfigError, match="has no class token"):
        backbone_of(_settings("swin", folder, features="class_token"))


def test_a_network_that_trained_in_16_bits_is_exact_afterwards(folder: Path) -> None:
    settings = _settings("swin", folder, freeze="none").with_one_block
    with process.dtype_policy("mixed_bfloat16"):
        trained = network(3, settings)
    exact, expected = fast_layers.exact(trained), network(3, settings)
    expected.set_weights(exact.get_weights())
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    np.testing.assert_allclose(exact(pixels), expected(pixels), atol=1e-6)
