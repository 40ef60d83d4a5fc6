"""Fine-tuning and training on images of noise, with small networks of random weights."""

from typing import Any

import keras
import numpy as np
import pytest

from imgpipe.models import names
from imgpipe.models.errors import DataRefused, ResourceError
from imgpipe.models.features import rows
from imgpipe.models.features.rows import Labelled
from imgpipe.models.network.classifier import build_classifier
from imgpipe.models.settings.course import FineTune
from imgpipe.models.settings.settings import Settings
from imgpipe.models.training import stages
from imgpipe.models.training.datasets import Activations, pixels
from imgpipe.models.training.stages import train
from tests.models import noise_data
from tests.models.banks import rows_of, write_facts
from tests.models.noise_data import CUT, EXTRACTOR, SIZE, TRAIN
from tests.network_settings import network_settings

_STAGE = noise_data.SETTINGS.course.fine_tune.model_copy(
    update={"mode": "on", "learning_rate": 0.01, "epochs": 6}
)
_SETTINGS = network_settings(
    noise_data.SETTINGS,
    optimizer="adam",
    epochs=4,
    batch_size=16,
    learning_rate=0.01,
    fine_tune=_STAGE.model_copy(update={"batch_size": 32}),
)


@pytest.fixture(scope="module")
def empty_bank(tmp_path_factory) -> str:
    """Return the path of a bank without features, as of a backbone that is trained."""
    directory = tmp_path_factory.mktemp("empty")
    write_facts(directory, [], "the backbone trains")
    return str(directory)


def _tuned(**values: Any) -> Settings:
    return network_settings(
        _SETTINGS, fine_tune=_SETTINGS.course.fine_tune.model_copy(update=values)
    )


def test_fine_tuning_from_the_bank_trains_what_is_above_the_cut(noise_bank, noise_images) -> None:
    tuned = train(noise_data.inputs(noise_images, noise_bank, _SETTINGS))
    assert tuned.history["trained"] == f"layers above {CUT}"
    said = tuned.history["fine_tune"]
    assert said["accuracy"] >= said["head_accuracy"]
    assert {layer.name for layer in tuned.layers.layers if layer.weights} == {"conv3", "classifier"}
    pixels = keras.Input((SIZE, SIZE, 3))
    network = keras.Model(pixels, _SETTINGS.backbone_spec().build(pixels)[0])
    old = network.get_layer("conv3").get_weights()
    new = tuned.layers.get_layer("conv3").get_weights()
    assert not np.allclose(old[0], new[0]), "the layer above the cut has learnt"
    classifier = build_classifier(tuned.layers, ["a", "b", "c"], _SETTINGS)
    held_out = Labelled.read([str(noise_images / f"{names.VALIDATION}-*")])
    right = [
        classifier.probabilities(images.tolist()).argmax(1) == held_out.labels[places]
        for places, images in held_out.values(names.IMAGE_BYTES)
    ]
    assert np.concatenate(right).mean() == pytest.approx(said["accuracy"])


@pytest.mark.parametrize("mode", ["on", "off"])
@pytest.mark.parametrize("optimizer", ["auto", "adam"])
def test_images_of_families_that_train_has_do_not_judge(tmp_path, optimizer, mode) -> None:
    stage = _SETTINGS.course.fine_tune.model_copy(update={"mode": mode, "epochs": 1})
    settings = network_settings(_SETTINGS, optimizer=optimizer, fine_tune=stage)
    half = noise_data.half_in_train
    trained = train(noise_data.grouped(tmp_path / "half", half, settings))
    held_out = Labelled.read([f"{tmp_path}/half/Split-{names.VALIDATION}/*"])
    new = held_out.hashes[np.char.startswith(held_out.families, b"validation")]
    assert trained.answers.hashes.tolist() == new.tolist()
    assert len(new) == len(held_out) / 2
    every = noise_data.grouped(tmp_path / "all", lambda *image: b"film", settings)
    trained = train(every)
    assert trained.answers.accuracy is None
    tuned = trained.history["fine_tune"]
    assert tuned is None or (tuned["head_accuracy"], tuned["accuracy"]) == (None, None)


@pytest.mark.slow
def test_both_stages_train_with_one_strategy(noise_bank, noise_images) -> None:
    mirrored = network_settings(_tuned(epochs=1), epochs=1, strategy="mirrored")
    found = train(noise_data.inputs(noise_images, noise_bank, mirrored))
    assert len(found.history["fine_tune"]["epochs"]) == 1


def test_a_network_without_trained_weights_trains_on_images(empty_bank, noise_images) -> None:
    settings = network_settings(
        _SETTINGS, freeze="auto", epochs=25, learning_rate=2e-3, fine_tune=FineTune()
    )
    assert not settings.frozen
    found = train(noise_data.inputs(noise_images, empty_bank, settings))
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
def test_layers_above_a_cut_train_fast_in_the_set_precision(
    monkeypatch, precision, of_the_processor, expected
) -> None:
    monkeypatch.setattr(stages, "resolve_precision", lambda wanted: of_the_processor)
    settings = network_settings(weights="none", freeze="all", image_size=SIZE, precision=precision)
    network = stages.network(2, settings.second_stage(), "block14_join")
    assert network.get_layer("block15_expand").compute_dtype == expected
    depthwise = network.get_layer("block15_depthwise")
    assert type(depthwise) is not keras.layers.DepthwiseConv2D
    assert depthwise.compute_dtype == "float32"


@pytest.mark.slow
def test_a_head_that_was_trained_on_images_is_fine_tuned_too(empty_bank, noise_images) -> None:
    found = train(noise_data.inputs(noise_images, empty_bank, _tuned(epochs=1)))
    assert found.history["trained"] == f"layers above {CUT}"


def test_activations_without_space_are_refused(noise_bank, noise_images, monkeypatch) -> None:
    usage = type("Usage", (), {"free": 0})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.raises(
        ResourceError, match=r"activations of 60 images and \d views of each above pool2 .* quarter"
    ):
        train(noise_data.inputs(noise_images, noise_bank, _tuned(epochs=2)))


def test_images_are_decoded_in_the_order_of_their_hashes(noise_images, monkeypatch) -> None:
    patterns = [str(noise_images / f"{names.TRAIN}-*")]
    found = pixels(patterns, SIZE, 3, _SETTINGS.views)
    assert found.stored.shape == (TRAIN, SIZE, SIZE, 3)
    assert list(found.seeds) == sorted(found.seeds)
    brightness = found.stored.reshape(TRAIN, -1).mean(1)
    assert np.corrcoef(brightness, found.labels)[0, 1] > 0.95
    with pytest.raises(DataRefused, match="the vocabulary has 2"):
        pixels(patterns, SIZE, 2, _SETTINGS.views)
    monkeypatch.setattr(rows, "IN_MEMORY", 100)
    in_a_file = pixels(patterns, SIZE, 3, _SETTINGS.views)
    assert rows.mapped(in_a_file.stored)
    np.testing.assert_array_equal(in_a_file.stored, found.stored)


def test_activations_are_those_of_the_extractor(noise_images) -> None:
    images = Labelled.read([str(noise_images / f"{names.TRAIN}-*")])
    both = Labelled.read([str(noise_images / "*")])
    kept = Activations(both, EXTRACTOR, 2)
    without_views = kept.rows(images, 0)
    maps = kept.rows(images, 1)
    assert (len(without_views), len(maps)) == (TRAIN, 2 * TRAIN)
    assert maps.labels.tolist() == np.repeat(images.labels, 2).tolist()
    for places, encoded in images.values(names.IMAGE_BYTES):
        hashes = [digest.decode() for digest in images.hashes[places]]
        found = EXTRACTOR.extract(encoded.tolist(), hashes, [[0, 1]] * len(hashes))
        for place, rows_of_image in zip(places, found, strict=True):
            of_image = maps.places[2 * place : 2 * place + 2]
            assert without_views.places[place] == of_image[0], "each is computed once"
            np.testing.assert_array_equal(maps.stored[of_image], rows_of_image)


def test_what_is_unlike_ten_images_of_a_class_is_told_with_those_of_validation() -> None:
    every = rows_of(np.random.default_rng(0).normal(size=(18, 8)), np.arange(18) % 2)
    training, validation = every.select(np.arange(12)), every.select(np.arange(12, 18))
    found = stages.row_distribution(training, validation)
    assert found is not None and found.held_out == 18
    assert stages.row_distribution(training, validation.select(np.arange(0))) is None
