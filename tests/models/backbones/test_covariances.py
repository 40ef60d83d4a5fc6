"""A head can read covariances of every kind of backbone, and exports answer alike."""

from pathlib import Path

import keras
import numpy as np
import pytest

from imgpipe.models.backbones import presets, registry
from imgpipe.models.errors import ConfigError
from imgpipe.models.export import exchange_files
from imgpipe.models.export.saved_model import export
from imgpipe.models.names import FEATURES, HEAD, PROBABILITIES
from imgpipe.models.network import covariance_pooling, network_file
from imgpipe.models.network.classifier import build_classifier
from imgpipe.models.settings.settings import Settings
from tests.images import soft
from tests.models.backbones import hub_presets
from tests.network_settings import network_settings

_CLASSES = ("a", "b", "c")
_SIDE = 64
_HUB = "hub:"
_MOBILENET = "mobilenet_v2"
_KINDS = (
    *("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"),
    *(_MOBILENET, "resnet50", "densenet121"),
    *(f"{_HUB}{family}" for family in ("resnet", "swin", "vit", "dinov2", "siglip")),
)

pytestmark = pytest.mark.slow


def _settings(kind: str, folder: Path, request: pytest.FixtureRequest) -> Settings:
    given = {"backbone": kind, "features": "covariance", "freeze": "all", "image_size": _SIDE}
    if kind.startswith(_HUB):
        if not presets.installed():
            pytest.skip("KerasHub is not installed (the extra hub)")
        family = kind.removeprefix(_HUB)
        given |= {"backbone": f"{_HUB}{hub_presets.write(family, folder)}", "image_size": 0}
    elif packaged := registry.architecture(kind).packaged:
        if not packaged.installed:
            pytest.skip(f"{packaged.distribution} is not installed (the extra backbones)")
    elif kind == _MOBILENET:
        weights = "mobilenet_v2_1.0_224_no_top_from_coral_ptq.weights.h5"
        given["weights"] = str(request.getfixturevalue("shared_data") / "weights" / weights)
    else:
        given["weights"] = "none"
    return network_settings(**given)


@pytest.mark.parametrize("kind", _KINDS)
def test_a_head_reads_covariances_of_each_kind_of_backbone_and_exports_answer_alike(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    keras.utils.set_random_seed(0)  # how far float16 differs depends on the weights
    settings = _settings(kind, tmp_path, request)
    classifier = build_classifier(None, _CLASSES, settings)
    side = classifier.image_size
    constant = [np.full((side, side, 3), value, np.uint8) for value in (0, 128, 255)]
    pixels = np.stack([*constant, *(np.asarray(soft(seed, (side, side))) for seed in range(3))])
    answered = {
        name: np.asarray(value)
        for name, value in classifier.network(pixels.astype(np.float32)).items()
    }
    features = answered[FEATURES]
    axes = covariance_pooling.number_of_axes(classifier.trunk.outputs)
    maps = [one.shape[-1] for one in classifier.trunk.outputs]
    assert len(maps) >= 2 and 0 < axes <= min(maps)
    assert features.shape[1] == maps[0] + len(maps) * axes * (axes + 1) // 2
    assert np.isfinite(features).all(), "also of images without any variance"
    assert features[3:, maps[0] :].std(axis=0).max() > 0, "the covariances of images differ"

    # Random features may have any scale, and equal answers would be no test.
    head = classifier.network.get_layer(HEAD)
    kernel, bias = head.get_weights()
    head.set_weights([2 * kernel / features.std(axis=0).max(), bias])
    expected = np.asarray(classifier.network(pixels.astype(np.float32))[PROBABILITIES])
    assert expected.std(axis=0).max() > 1e-3
    version = tmp_path / "1"
    export(classifier, str(version))
    network_file.save(classifier, settings, str(version))
    lite = exchange_files.open_lite(exchange_files.to_lite(version))
    # The weights of the file have 16 bits: random heads on MobileNetV2 differ by up to 0.026.
    np.testing.assert_allclose(lite(pixels), expected, atol=0.04 if kind == _MOBILENET else 0.02)
    if kind.startswith(_HUB) and kind != "hub:resnet":  # which has layers of Keras alone
        with pytest.raises(ConfigError, match="cannot read all layers of KerasHub"):
            exchange_files.to_keras(version)
    else:
        keras_file = exchange_files.open_keras(exchange_files.to_keras(version))
        np.testing.assert_allclose(keras_file(pixels), expected, atol=1e-3)
    pytest.importorskip("tf2onnx")
    onnx = exchange_files.open_onnx(exchange_files.to_onnx(version))
    np.testing.assert_allclose(onnx(pixels), expected, atol=1e-3)
