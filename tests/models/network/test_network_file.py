"""Tests of the network file of an export: it restores every bit or raises a clear error."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from imgpipe.components.common.storage import manifest
from imgpipe.models.errors import ResourceError
from imgpipe.models.export.saved_model import write_digest
from imgpipe.models.network import network_file
from imgpipe.models.network.classifier import ClassifierNetwork, build_classifier
from imgpipe.models.settings.settings import Settings
from tests.images import encoded, soft
from tests.network_settings import network_settings

# Keras causes this warning when it writes a file of weights.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")

_SMALL = {"backbone": "conv_4_8", "weights": "none", "image_size": 24}
_IMAGES = [encoded(soft(seed, (60, 50)), "JPEG") for seed in range(3)]


def _trained(settings: Settings, classes: int = 2) -> ClassifierNetwork:
    """Return a network all of whose arrays differ from those that it was built with."""
    vocabulary = ["cat", "dog", "owl"][:classes]
    classifier = build_classifier(None, vocabulary, settings, 1.7)
    random = np.random.default_rng(3)
    for layer in classifier.network.layers:
        packaged = (
            settings.model.backbone == "efficientnet_lite0" and "classifier" not in layer.name
        )
        if layer.weights and not packaged:
            layer.set_weights([_moved(w, random) for w in layer.get_weights()])
        if type(layer).__name__ == "Rescaling" and np.ndim(layer.scale):
            scale = np.asarray(layer.scale, np.float32)
            layer.scale = (scale * random.uniform(0.9, 1.1, len(scale))).tolist()
    return classifier


def _moved(weight: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return a changed copy of `weight`, near enough that a deep network does not overflow."""
    offset = random.uniform(0, 0.02, weight.shape) if weight.ndim == 1 else 0
    return weight * random.uniform(0.9, 1.1, weight.shape) + offset


def _export(classifier: ClassifierNetwork, settings: Settings, directory: Path) -> Path:
    """Write the parts of an export that matter here: the variables and the network's folder."""
    size = classifier.image_size
    archive = keras.export.ExportArchive()
    archive.add_endpoint(
        "serve",
        lambda pixels: classifier.network(pixels, training=False),
        [tf.TensorSpec([None, size, size, 3], tf.float32)],
    )
    archive.write_out(str(directory), verbose=False)
    network_file.save(classifier, settings, str(directory))
    return directory


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> tuple[ClassifierNetwork, Path]:
    settings = network_settings(**_SMALL, hidden_units=5)
    classifier = _trained(settings)
    return classifier, _export(classifier, settings, tmp_path_factory.mktemp("network") / "1")


@pytest.fixture
def version(original, tmp_path) -> Path:
    return Path(shutil.copytree(original[1], tmp_path / "1"))


def _file_of(version: Path) -> Path:
    return version / network_file.FOLDER / network_file.FILE


@pytest.mark.parametrize(
    ("settings", "classes"),
    [
        ({**_SMALL, "features": "flatten", "hidden_units": 7}, 3),
        ({**_SMALL, "backbone": "conv_4_8_grey", "activation": "softmax"}, 2),
        # The head of a small network that reads covariances is in `test_covariance_pooling`.
        pytest.param({"image_size": 64}, 3, marks=pytest.mark.slow),
        *(
            pytest.param({"backbone": name, "weights": "none", **more}, 2, marks=pytest.mark.slow)
            for name, more in (
                ("mobilenet_v2", {"image_size": 64, "freeze": "all"}),
                ("mobilenet_v2", {"image_size": 64, "freeze": "none"}),
                ("inception_v3", {"image_size": 75, "freeze": "all", "cut": "mixed7"}),
                ("resnet50_v2", {"image_size": 64, "freeze": "all"}),
            )
        ),
    ],
)
def test_a_network_is_restored_bit_for_bit(settings, classes, tmp_path) -> None:
    options = network_settings(**settings)
    classifier = _trained(options, classes)
    found = network_file.load(_export(classifier, options, tmp_path / "1"))
    expected = classifier.probabilities(_IMAGES)
    if settings.get("backbone") != "mobilenet_v2":  # random: one answer for all images
        assert expected.std(axis=0).min() > 0
    np.testing.assert_array_equal(found.probabilities(_IMAGES), expected)
    assert [path.name for path in (tmp_path / "1" / network_file.FOLDER).iterdir()] == [
        network_file.FILE
    ]
    for name in ("vocabulary", "image_size", "temperature"):
        assert getattr(found, name) == getattr(classifier, name)
    for one, other in zip(found.network.layers, classifier.network.layers, strict=True):
        assert (one.name, type(one)) == (other.name, type(other))
        assert getattr(one, "scale", None) == getattr(other, "scale", None)
        for array, expected in zip(one.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}"])
def test_a_missing_or_damaged_file_is_a_clear_error(version, text) -> None:
    _file_of(version).unlink()
    if text is not None:
        _file_of(version).write_text(text)
    with pytest.raises(ResourceError, match=r"network.* cannot be .*: .*estore the version"):
        network_file.load(version)


def test_code_in_the_configuration_is_not_run(version) -> None:
    code = lambda x: __import__("pathlib").Path("ran").touch() or x  # noqa: E731
    pixels = keras.Input((24, 24, 3))
    evil = keras.Model(pixels, keras.layers.Lambda(code, output_shape=(24, 24, 3))(pixels))
    Path("ran").unlink(missing_ok=True)
    content = json.loads(_file_of(version).read_text())
    content["network"] = json.loads(evil.to_json())
    _file_of(version).write_text(json.dumps(content))
    with pytest.raises(ResourceError, match=r"cannot be built again: .*Lambda"):
        network_file.load(version)
    assert not Path("ran").exists()


def test_the_network_folder_does_not_change_the_model_identity(original, version) -> None:
    shutil.rmtree(version / network_file.FOLDER)
    write_digest(original[0], str(version), top_k=5)
    before = manifest.identity(manifest.describe(version))
    network_file.save(original[0], network_settings(**_SMALL, hidden_units=5), str(version))
    files = manifest.describe(version)
    assert manifest.identity(files) == before
    assert f"{network_file.FOLDER}/{network_file.FILE}" in files
