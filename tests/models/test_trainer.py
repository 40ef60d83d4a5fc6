"""Tests of `run_fn` as TFX calls it, with a bank and images, from which it writes a model."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from imgpipe.models import names
from imgpipe.models.errors import ConfigError
from imgpipe.models.features import feature_distribution
from imgpipe.models.features.bank import read_rows
from imgpipe.models.network import network_file
from imgpipe.models.network.classifier import build_classifier
from imgpipe.models.settings.given import Facts, of_component
from imgpipe.models.settings.settings import Settings
from imgpipe.models.trainer import image_distribution, run_fn, some_images, stored_features
from tests.images import encoded, soft
from tests.models.banks import clean, write_bank, write_facts, write_records
from tests.network_settings import network_settings

_VOCABULARY = ["paper", "rock", "scissors"]


def _image(seed: int) -> bytes:
    return encoded(soft(seed), "JPEG")


def _row(seed: int, digest: int) -> dict[str, object]:
    return {
        names.IMAGE_BYTES: _image(seed),
        names.IMAGE_HASH: f"{digest:064x}".encode(),
        names.LABEL_INDEX: seed % 3,
    }


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("training")
    bank = write_bank(directory / "bank", dim=1280, images=30, views=2)
    rows = [_row(seed, seed * 7919 % 31) for seed in range(9)]
    write_records(directory / "images-00000-of-00001", rows)
    settings = network_settings(image_size=64, optimizer="adam", epochs=3, batch_size=8)
    text = of_component("ImageTrainer", settings, Facts(vocabulary=_VOCABULARY))
    config = {**json.loads(text), "bank_uri": bank}
    run_fn(
        SimpleNamespace(
            custom_config=config,
            train_files=[str(directory / "images-*")],
            eval_files=[str(directory / "images-*")],
            serving_model_dir=str(directory / "model"),
            model_run_dir=str(directory / "run"),
        )
    )
    return directory


def test_the_history_of_the_training_is_written(ran: Path) -> None:
    history = json.loads((ran / "run" / "history.json").read_text())
    assert history["stopped"] in {"target", "plateau", "epochs"}
    assert [epoch["epoch"] for epoch in history["epochs"]] == [1, 2, 3]
    assert 1 <= history["best_epoch"] <= 3
    assert history["seconds"] > 0
    assert (history["image_size"], history["features"]) == (224, "average"), "of the bank"
    assert list((ran / "run" / "tensorboard").rglob("events.out.tfevents.*"))


def test_the_model_gives_the_recorded_probabilities(ran: Path) -> None:
    spec = {
        names.IMAGE_BYTES: tf.io.FixedLenFeature([], tf.string),
        names.PROBABILITIES: tf.io.FixedLenFeature([3], tf.float32),
    }
    records = list(tf.data.TFRecordDataset(str(ran / "run" / "parity.tfrecord")))
    assert len(records) == 9
    parity = tf.io.parse_example(records, spec)
    served = tf.saved_model.load(str(ran / "model")).signatures["serving_default"]
    answer = served(image_bytes=parity[names.IMAGE_BYTES])
    np.testing.assert_allclose(answer[names.PROBABILITIES], parity[names.PROBABILITIES], atol=1e-6)
    assert answer["top_k_classes"].shape == (9, 3)
    inside = network_file.load(ran / "model").probabilities(parity[names.IMAGE_BYTES].numpy())
    np.testing.assert_allclose(inside, parity[names.PROBABILITIES], atol=1e-6)


def test_the_same_images_are_picked_in_any_order(ran: Path) -> None:
    patterns = [str(ran / "images-*")]
    picked = list(some_images(patterns, 4).values())
    order = sorted(range(9), key=lambda seed: seed * 7919 % 31)
    assert picked == [_image(seed) for seed in order[:4]]
    assert len(some_images(patterns, 100)) == 9
    assert some_images(patterns, 0) == some_images([str(ran / "none-*")], 4) == {}


def test_stored_features_of_some_images_are_read_in_blocks(tmp_path) -> None:
    bank = write_bank(tmp_path / "bank")
    write_facts(bank, [10, 6])
    rows = clean(read_rows(bank, names.TRAIN, 3))
    chosen = [7, 3]
    blocks = stored_features(bank, rows.hashes[chosen].tolist())
    assert [block.shape for block in blocks] == [(2, 10), (2, 6)]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), rows.features[chosen])


def test_the_distribution_of_the_features_is_exported(ran: Path) -> None:
    """It is computed from the bank if only the head was trained."""
    found = feature_distribution.load(str(ran / "model"))
    assert found is not None and found.held_out == 90
    validation = read_rows(str(ran / "bank"), names.VALIDATION, 3).features
    above = found.scores(validation) > found.threshold
    assert above.sum() == found.held_out_above == 1
    others = np.random.default_rng(0).normal(size=(50, 1280))
    assert (found.scores(others) > found.threshold).all()


def test_the_distribution_of_a_trained_backbone_is_computed_from_images(tmp_path) -> None:
    rows = [_row(seed, seed) for seed in range(130)]
    write_records(tmp_path / "train-00000-of-00001", rows[:70])
    write_records(tmp_path / "eval-00000-of-00001", rows[70:])
    settings = network_settings(
        backbone="conv_8_16",
        weights="none",
        image_size=32,
    )
    classifier = build_classifier(None, _VOCABULARY, settings)
    train, held_out = ([str(tmp_path / f"{split}-*")] for split in ("train", "eval"))
    found = image_distribution(classifier, train, held_out)
    assert found is not None and found.held_out == 60
    assert image_distribution(classifier, [], held_out) is None


def test_a_run_in_a_bucket_is_refused():
    text = of_component("ImageTrainer", Settings(), Facts(vocabulary=_VOCABULARY))
    config = {**json.loads(text), "bank_uri": "gs://bucket/bank"}
    given = SimpleNamespace(custom_config=config, model_run_dir="gs://bucket/run")
    with pytest.raises(ConfigError, match="ImageTrainer: expected a local folder"):
        run_fn(given)
