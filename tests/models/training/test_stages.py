"""Tests of fine-tuning, training on images and the choice between them, with small networks.

The networks have random weights. The images are noise of three brightnesses, so that even a small
network learns them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from imgpipe.models import feature_names as names
from imgpipe.models.errors import ConfigError, DataRefused, ResourceError
from imgpipe.models.examples import Labelled
from imgpipe.models.features import rows
from imgpipe.models.features.extractor import FeatureExtractor
from imgpipe.models.network.classifier import build_classifier
from imgpipe.models.setting_sections import FineTune
from imgpipe.models.settings import ModelSettings
from imgpipe.models.training import stages
from imgpipe.models.training.image_rows import pixels
from imgpipe.models.training.stages import Inputs, Trained, train
from tests.images import encoded, noise

_SIZE = 32
_TAP = "pool2"
_SETTINGS = ModelSettings.from_mapping(
    {
        "backbone": "conv_8_8_8",
        "weights": "none",
        "freeze": "all",
        "image_size": _SIZE,
        "optimizer": "adam",
        "epochs": 4,
        "batch_size": 16,
        "learning_rate": 0.01,
        "views": {"count": 1},
        "fine_tune": {"mode": "on", "cut": _TAP, "learning_rate": 0.01, "epochs": 6},
    }
)


def _image(label: int, seed: int) -> bytes:
    """Return a PNG image of noise whose brightness depends on its label."""
    return encoded(60 * label + noise(seed, (36, 40)) % 100)


@pytest.fixture(scope="module")
def examples(write_records, tmp_path_factory) -> Path:
    """Return the folder with TFRecord files of images of both splits."""
    directory = tmp_path_factory.mktemp("examples")
    for split, count, first in ((names.TRAIN, 36, 0), (names.VALIDATION, 12, 100)):
        records = []
        for i in range(count):
            image = _image(i % 3, first + i)
            digest = hashlib.sha256(image).hexdigest()
            row = {names.IMAGE_BYTES: image, names.IMAGE_HASH: digest.encode()}
            records.append({**row, names.LABEL_INDEX: i % 3})
        write_records(directory / f"{split}-00000", records)
    return directory


@pytest.fixture(scope="module")
def bank(examples, write_records, tmp_path_factory) -> str:
    """Return the path of a bank with features, as FeatureBank writes it."""
    directory = tmp_path_factory.mktemp("bank")
    extractor = FeatureExtractor(_SETTINGS.backbone_spec(), _SIZE, "float32", _SETTINGS.views)
    for split in (names.TRAIN, names.VALIDATION):
        images = Labelled.read([str(examples / f"{split}-*")])
        views = [0, 1] if split == names.TRAIN else [0]
        records = []
        for places, files in images.values(names.IMAGE_BYTES):
            hashes = [images.hashes[place].decode() for place in places]
            found = extractor.extract(files.tolist(), hashes, [views] * len(hashes))
            for place, vectors in zip(places, found, strict=True):
                records += [
                    {
                        names.IMAGE_HASH: bytes(images.hashes[place]),
                        names.VIEW: view,
                        names.LABEL_INDEX: int(images.labels[place]),
                        names.FEATURES: vector.tobytes(),
                    }
                    for view, vector in zip(views, vectors, strict=True)
                ]
        write_records(directory / f"Split-{split}" / "data_tfrecord-00000-of-00001", records)
    (directory / "bank.json").write_text(json.dumps({"dim": extractor.dim}))
    return str(directory)


@pytest.fixture(scope="module")
def empty_bank(tmp_path_factory) -> str:
    """Return the path of a bank without features, as of a backbone that is trained."""
    directory = tmp_path_factory.mktemp("empty")
    (directory / "bank.json").write_text('{"dim": 0, "note": "the backbone trains"}')
    return str(directory)


def _inputs(settings: ModelSettings, bank: str, examples: Path, **more: object) -> Inputs:
    """Return the inputs of a training on the bank and the images."""
    files = [[str(examples / f"{split}-*")] for split in (names.TRAIN, names.VALIDATION)]
    return Inputs(settings, 3, bank, *files, **more)


def _tuned(**values: object) -> ModelSettings:
    """Return the settings with other values for fine-tuning."""
    return replace(_SETTINGS, fine_tune=replace(_SETTINGS.fine_tune, **values))


@pytest.fixture(scope="module")
def tuned(bank, examples) -> Trained:
    """Return the result of a training with fine-tuning."""
    return train(_inputs(_SETTINGS, bank, examples))


def test_fine_tuning_from_the_bank_trains_what_is_above_the_cut(tuned, bank, examples) -> None:
    import keras
    import tensorflow as tf

    assert tuned.history["trained"] == f"layers above {_TAP}"
    said = tuned.history["fine_tune"]
    assert said["shipped"]
    assert said["accuracy"] >= said["head_accuracy"]
    assert {layer.name for layer in tuned.layers.layers if layer.weights} == {
        "conv3",
        "classifier",
    }
    pixels = keras.Input((_SIZE, _SIZE, 3))
    network = keras.Model(pixels, _SETTINGS.backbone_spec().build(pixels))
    old = network.get_layer("conv3").get_weights()
    new = tuned.layers.get_layer("conv3").get_weights()
    assert not np.allclose(old[0], new[0]), "the layer above the cut has learnt"
    classifier = build_classifier(tuned.layers, ["a", "b", "c"], _SETTINGS)
    records = tf.data.TFRecordDataset(str(examples / f"{names.VALIDATION}-00000"))
    spec = {
        names.IMAGE_BYTES: tf.io.FixedLenFeature([], tf.string),
        names.LABEL_INDEX: tf.io.FixedLenFeature([], tf.int64),
    }
    parsed = [tf.io.parse_single_example(record, spec) for record in records]
    answers = classifier.probabilities([one[names.IMAGE_BYTES].numpy() for one in parsed])
    labels = np.array([int(one[names.LABEL_INDEX]) for one in parsed])
    assert (answers.argmax(1) == labels).mean() == pytest.approx(said["accuracy"])


def test_the_same_bank_gives_the_same_weights(tuned, bank, examples) -> None:
    again = train(_inputs(_SETTINGS, bank, examples))
    for one, other in zip(tuned.layers.get_weights(), again.layers.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_auto_ships_the_head_if_fine_tuning_is_worse(bank, examples) -> None:
    ruined = _tuned(mode="auto", learning_rate=10.0, schedule="constant", epochs=1)
    found = train(_inputs(ruined, bank, examples))
    said = found.history["fine_tune"]
    assert not said["shipped"]
    assert found.history["trained"] == "head"
    alone = train(_inputs(_tuned(mode="off"), bank, examples))
    np.testing.assert_array_equal(found.answers.logits, alone.answers.logits)


def test_both_stages_train_with_one_strategy(bank, examples) -> None:
    mirrored = replace(_tuned(mode="auto", epochs=1), epochs=1, strategy="mirrored")
    found = train(_inputs(mirrored, bank, examples))
    assert len(found.history["fine_tune"]["epochs"]) == 1


def test_a_network_without_trained_weights_trains_on_images(empty_bank, examples) -> None:
    settings = replace(
        _SETTINGS, freeze="auto", epochs=25, learning_rate=2e-3, fine_tune=FineTune()
    )
    assert not settings.frozen
    found = train(_inputs(settings, empty_bank, examples))
    assert found.history["trained"] == "all layers, on the fly (the backbone trains)"
    assert found.history["epochs"][-1]["val_accuracy"] > 0.6
    assert all(layer.trainable for layer in found.layers.layers)
    build_classifier(found.layers, ["a", "b", "c"], settings)


@pytest.mark.parametrize(
    ("precision", "of_the_processor", "expected"),
    [
        ("auto", "bfloat16", "bfloat16"),
        ("auto", "float32", "float32"),
        ("float32", "bfloat16", "float32"),
    ],
)
def test_layers_above_a_cut_train_fast_in_the_precision_of_the_settings(
    monkeypatch, precision, of_the_processor, expected
) -> None:
    monkeypatch.setattr(stages, "resolve_precision", lambda wanted: of_the_processor)
    settings = ModelSettings(weights="none", freeze="all", image_size=_SIZE, precision=precision)
    network = stages.network(2, settings.second_stage(), "block14_join")
    assert network.get_layer("block15_expand").compute_dtype == expected
    depthwise = network.get_layer("block15_depthwise")
    assert type(depthwise) is not keras.layers.DepthwiseConv2D
    assert depthwise.compute_dtype == "float32"


def test_the_head_is_kept_if_fine_tuning_diverges(bank, examples) -> None:
    ruined = _tuned(mode="auto", learning_rate=10.0, epochs=2)
    ruined = replace(ruined, optimizer="sgd")
    found = train(_inputs(ruined, bank, examples))
    assert not found.history["fine_tune"]["shipped"]
    assert np.isfinite(found.answers.logits).all()
    json.dumps(found.history, allow_nan=False)


def test_a_head_that_was_trained_on_images_is_fine_tuned_too(empty_bank, examples) -> None:
    found = train(_inputs(_tuned(epochs=1), empty_bank, examples))
    assert found.history["trained"] == f"layers above {_TAP}"
    assert found.history["fine_tune"]["shipped"]


def test_an_unknown_cut_lists_the_possible_cuts(bank, examples) -> None:
    with pytest.raises(ConfigError, match=r"Received: 'mixed7'.*pool1, conv2"):
        train(_inputs(_tuned(cut="mixed7"), bank, examples))


def test_activations_without_space_are_refused(bank, examples, monkeypatch) -> None:
    usage = type("Usage", (), {"free": 0})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.raises(ResourceError, match=r"activations of 36 images above pool2 .* quarter"):
        train(_inputs(_tuned(epochs=2), bank, examples))


def test_images_are_decoded_in_the_order_of_their_hashes(examples, monkeypatch) -> None:
    patterns = [str(examples / f"{names.TRAIN}-*")]
    found = pixels(patterns, _SIZE, 3, _SETTINGS.views)
    assert found.stored.shape == (36, _SIZE, _SIZE, 3)
    assert list(found.seeds) == sorted(found.seeds)
    brightness = found.stored.reshape(36, -1).mean(1)
    assert np.corrcoef(brightness, found.labels)[0, 1] > 0.95
    with pytest.raises(DataRefused, match="the vocabulary has 2"):
        pixels(patterns, _SIZE, 2, _SETTINGS.views)
    monkeypatch.setattr(rows, "IN_MEMORY", 100)
    in_a_file = pixels(patterns, _SIZE, 3, _SETTINGS.views)
    assert rows.mapped(in_a_file.stored)
    np.testing.assert_array_equal(in_a_file.stored, found.stored)
