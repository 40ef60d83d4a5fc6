"""Tests of the search for a better network than the solved head, with small random networks.

The penalty leaves the head so weak that any other network is better.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from imgpipe.models import feature_names as names
from imgpipe.models import progress
from imgpipe.models.errors import ConfigError
from imgpipe.models.examples import Labelled
from imgpipe.models.features.extractor import FeatureExtractor
from imgpipe.models.features.folds import judge_networks
from imgpipe.models.head.answers import Answers
from imgpipe.models.network import cuts
from imgpipe.models.network.classifier import build_classifier
from imgpipe.models.search import network_search, parts, ways
from imgpipe.models.setting_sections import FineTune
from imgpipe.models.settings import ModelSettings
from imgpipe.models.training import image_rows, stages
from imgpipe.models.training.cross_validation import summary
from imgpipe.models.training.stages import HEAD, Inputs, Trained
from imgpipe.models.training.training_loop import fit
from tests.images import encoded

_SIZE = 32
_CUT = "pool2"
_SETTINGS = ModelSettings.from_mapping(
    {
        "backbone": "conv_8_8_8",
        "weights": "none",
        "freeze": "all",
        "image_size": _SIZE,
        "l2": 1e9,
        "minutes": 5.0,
        "views": {"count": 1},
        "fine_tune": {
            "cut": _CUT,
            "batch_size": 16,
            "learning_rate": 0.05,
            "epochs": 25,
            "schedule": "constant",
        },
    }
)


@pytest.fixture(autouse=True, scope="module")
def judged_on_validation() -> Iterator[None]:
    """Let the validation split judge, although it is small; see `folded` for the folds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network_search, "judge_networks", lambda train, validation: False)
        yield


def _pixels(label: int, seed: int) -> np.ndarray:
    """Return noise as uint8 [40, 36, 3] whose brightness depends on its label."""
    random = np.random.default_rng(seed)
    return random.integers(60 * label, 60 * label + 100, (40, 36, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def examples(write_records, tmp_path_factory) -> Path:
    """Return the folder with images of both splits; one training image has no label."""
    directory = tmp_path_factory.mktemp("examples")
    for split, count, first in ((names.TRAIN, 37, 0), (names.VALIDATION, 24, 100)):
        rows = []
        for i in range(count):
            image = encoded(_pixels(i % 3, first + i), "PNG")
            digest = hashlib.sha256(image).hexdigest().encode()
            label = -1 if i == 36 else i % 3
            row = {names.IMAGE_BYTES: image, names.IMAGE_HASH: digest, names.LABEL_INDEX: label}
            rows.append(row)
        write_records(directory / f"{split}-00000", rows)
    return directory


def _extractor(tap: str = _CUT) -> FeatureExtractor:
    """Return the extractor of features and of the activations at the layer `tap`."""
    return FeatureExtractor(_SETTINGS.backbone_spec(), _SIZE, "float32", _SETTINGS.views, tap=tap)


@pytest.fixture(scope="module")
def bank(examples, write_records, tmp_path_factory) -> str:
    """Return the path of a bank with features but no activations, as FeatureBank writes it."""
    import tensorflow as tf

    directory, extractor = tmp_path_factory.mktemp("bank"), _extractor("")
    for split in (names.TRAIN, names.VALIDATION):
        rows = []
        for record in tf.data.TFRecordDataset(str(examples / f"{split}-00000")):
            found = tf.train.Example.FromString(record.numpy()).features.feature
            image = found[names.IMAGE_BYTES].bytes_list.value[0]
            digest = found[names.IMAGE_HASH].bytes_list.value[0]
            [vector] = extractor.extract([image], [digest.decode()], [[0]])
            row = {names.IMAGE_HASH: digest, names.VIEW: 0, names.FEATURES: vector.tobytes()}
            rows.append(row | {names.LABEL_INDEX: found[names.LABEL_INDEX].int64_list.value[0]})
        write_records(directory / f"Split-{split}" / "data_tfrecord-00000-of-00001", rows)
    facts = {"dim": extractor.dim, "precision": "float32"}
    (directory / "bank.json").write_text(json.dumps(facts))
    return str(directory)


def _inputs(examples: Path, bank: str, **settings: object) -> Inputs:
    """Return the inputs of a search, with other model settings."""
    files = [[str(examples / f"{split}-*")] for split in (names.TRAIN, names.VALIDATION)]
    return Inputs(replace(_SETTINGS, **settings), 3, bank, *files)


class _Said:
    """A display that keeps what is said, and where a person ends the search if `ends` is set."""

    def __init__(self, ends: bool = False) -> None:
        self.said: list[str] = []
        self.ends = ends

    def stoppable(self) -> contextlib.AbstractContextManager[None]:
        """Return a context manager that does nothing."""
        return contextlib.nullcontext()

    def stopped(self) -> bool:
        """Return whether the person has ended the search."""
        return self.ends

    def advance(self, count: int, unit: str) -> None:
        """Ignore the count."""

    def total(self, count: int, unit: str) -> None:
        """Ignore the count."""

    def say(self, text: str) -> None:
        """Keep the sentence in `said`."""
        self.said.append(text)


@pytest.fixture(scope="module")
def searched(examples, bank) -> tuple[Trained, list[str]]:
    """Return the result of a search, and what it said."""
    display = _Said()
    with progress.shown_by(display):
        return network_search.train(_inputs(examples, bank)), display.said


def test_a_better_network_than_the_head_is_found_and_kept(searched) -> None:
    trained, said = searched
    rows = trained.history["search"]
    assert rows[0]["what"] == "head on frozen features"
    assert rows[0]["accuracy"] < 0.7, "the penalty leaves little of the head"
    assert rows[1]["what"].startswith(f"layers above {_CUT}, {_SIZE} pixels")
    assert rows[1]["kept"] is True
    assert rows[1]["gain"] > 2 * rows[1]["standard_error"]
    assert rows[1]["accuracy"] == pytest.approx(rows[0]["accuracy"] + rows[1]["gain"])
    assert trained.history["trained"].startswith(f"layers above {_CUT}")
    assert trained.image_size == _SIZE
    assert trained.history["fine_tune"]["accuracy"] == trained.answers.accuracy
    assert trained.history["solution"]["accuracy"] < network_search.ENOUGH
    assert "for at most 5 minutes (--minutes)" in said[0]
    assert said[1].startswith(rows[1]["what"])


def test_the_network_that_was_kept_is_shipped(searched, examples) -> None:
    import tensorflow as tf

    trained, _ = searched
    classifier = build_classifier(trained.layers, ["a", "b", "c"], _SETTINGS)
    records = tf.data.TFRecordDataset(str(examples / f"{names.VALIDATION}-00000"))
    parsed = [tf.train.Example.FromString(one.numpy()).features.feature for one in records]
    ordered = sorted(parsed, key=lambda one: one[names.IMAGE_HASH].bytes_list.value[0])
    images = [one[names.IMAGE_BYTES].bytes_list.value[0] for one in ordered]
    right = classifier.probabilities(images).argmax(1) == trained.answers.labels
    assert right.mean() == pytest.approx(trained.history["fine_tune"]["accuracy"])


def test_no_network_is_tried_if_the_head_is_good_enough(examples, bank, monkeypatch) -> None:
    monkeypatch.setattr(network_search, "ENOUGH", 0.0)
    trained = network_search.train(_inputs(examples, bank))
    assert [row["what"] for row in trained.history["search"]] == ["head on frozen features"]
    assert trained.history["search_ended"]["reason"] == "enough"
    assert "cross-validation over the training images" in trained.history["search_ended"]["text"]
    assert trained.history["trained"] == HEAD


def test_no_network_is_tried_if_no_gain_could_be_seen(examples, bank, monkeypatch) -> None:
    head = network_search.stages.train(_inputs(examples, bank))
    logits = np.eye(3, dtype=np.float32)[head.answers.labels]
    right = replace(head, answers=replace(head.answers, logits=logits))
    monkeypatch.setattr(network_search.stages, "train", lambda inputs: right)
    trained = network_search.train(_inputs(examples, bank))
    assert len(trained.history["search"]) == 1
    assert trained.history["search_ended"] == {
        "reason": "few_mistakes",
        "text": "Nothing else was tried, because the head is wrong on only 0 of 24 validation "
        "images, so that the gain of another network could not be distinguished from chance. "
        "A larger validation split (split.validation) would let the search run.",
    }


@pytest.fixture(scope="module")
def folded(examples, bank) -> tuple[Trained, list[str]]:
    """Return the result of a search whose networks are judged by folds, and what it said."""
    display = _Said()
    with progress.shown_by(display), pytest.MonkeyPatch.context() as patch:
        patch.setattr(network_search, "judge_networks", judge_networks)
        return network_search.train(_inputs(examples, bank)), display.said


def test_few_validation_images_leave_the_judgement_to_folds(folded) -> None:
    trained, said = folded
    head, tuned, *_ = trained.history["search"]
    assert (head["judged_by"], tuned["judged_by"]) == ("folds", "folds")
    assert tuned["kept"] is True
    assert tuned["gain"] > 2 * tuned["standard_error"]
    correct = tuned["accuracy"] * (36 + 24)  # of the images of train and validation with a label
    assert correct == pytest.approx(round(correct))
    found = trained.history["cross_validation"]
    assert (found["folds"], found["images"], found["groups"]) == (3, 60, 60)
    assert found["correct"] == round(correct)
    assert [fold["trained_on"] + fold["images"] for fold in found["per_fold"]] == [60, 60, 60]
    assert "The validation split has only 24 images, so each network is judged by 3-fold" in said[0]
    assert "cross-validation accuracy" in said[1]


def test_the_network_that_folds_prefer_is_trained_on_the_training_split(folded, examples) -> None:
    """It is evaluated on the validation split, of which none of its images is."""
    trained, _ = folded
    validation = Labelled.read([str(examples / f"{names.VALIDATION}-*")])
    assert trained.answers.labels.tolist() == validation.labels.tolist()
    tuned = trained.history["fine_tune"]
    assert tuned["accuracy"] == trained.answers.accuracy > 0.9
    assert tuned["best_epoch"] == len(tuned["epochs"]), "the last one, as in the folds"
    assert trained.history["trained"] == f"layers above {_CUT}"


def test_the_answers_of_the_folds_calibrate_the_network(folded, searched) -> None:
    trained, _ = folded
    assert trained.by_folds.logits.shape == (36 + 24, 3)
    assert trained.by_folds.right.sum() == trained.history["cross_validation"]["correct"]
    assert searched[0].by_folds is None


def test_the_answers_of_the_folds_calibrate_a_head_that_remains_the_best(
    examples, bank, monkeypatch
) -> None:
    monkeypatch.setattr(network_search, "judge_networks", judge_networks)
    monkeypatch.setattr(network_search, "FEWEST_CORRECTED", 100.0)
    trained = network_search.train(_inputs(examples, bank))
    assert trained.history["search_ended"]["reason"] == "few_mistakes"
    accuracy = trained.history["search"][0]["accuracy"]
    assert trained.by_folds.accuracy == pytest.approx(accuracy)
    assert len(trained.by_folds.labels) == 36 + 24


def test_folds_train_on_the_other_images_alone(examples, bank) -> None:
    inputs = _inputs(examples, bank)
    every = parts.folds(inputs)
    held_out = np.concatenate([part.held_out.hashes for part in every])
    assert len(every) == parts.FOLDS
    assert len(set(held_out)) == len(held_out) == 36 + 24
    for part in every:
        assert set(part.training.hashes) == set(held_out) - set(part.held_out.hashes)
        assert part.best.answers.labels.tolist() == part.held_out.labels.tolist()
        rows = image_rows.activations(part.held_out, _extractor(), 0)
        assert len(rows) == len(part.held_out)


def _with_groups(bank: str, folder: Path, write_records, group_of) -> str:
    """Return a copy of the bank in which `group_of` gives the group of an image by its label."""
    import tensorflow as tf

    for split in (names.TRAIN, names.VALIDATION):
        file = f"Split-{split}/data_tfrecord-00000-of-00001"
        rows = []
        for i, record in enumerate(tf.data.TFRecordDataset(f"{bank}/{file}")):
            found = tf.train.Example.FromString(record.numpy()).features.feature
            label = found[names.LABEL_INDEX].int64_list.value[0]
            row = {
                name: found[name].bytes_list.value[0] for name in (names.IMAGE_HASH, names.FEATURES)
            }
            row |= {names.VIEW: 0, names.LABEL_INDEX: label}
            rows.append(row | {names.GROUP: group_of(split, i, label)})
        (folder / file).parent.mkdir(parents=True)
        write_records(folder / file, rows)
    (folder / "bank.json").write_text((Path(bank) / "bank.json").read_text())
    return str(folder)


def test_a_group_is_in_one_fold(examples, bank, write_records, tmp_path) -> None:
    def film(split: str, i: int, label: int) -> bytes:
        return f"film {i // 3}".encode()  # films have images of both splits

    grouped = parts.folds(_inputs(examples, _with_groups(bank, tmp_path, write_records, film)))
    assert sum(len(part.held_out.labels) for part in grouped) == 36 + 24
    films = [set(part.best.answers.groups.tolist()) for part in grouped]
    assert sum(map(len, films)) == len(set().union(*films)) == 12


def test_a_class_in_one_fold_decides_nothing(examples, bank, write_records, tmp_path) -> None:
    """All images of class 2 are of one film: no network can learn it and be judged on it."""

    def film(split: str, i: int, label: int) -> bytes:
        return b"film" if label == 2 else f"{split} {i}".encode()

    grouped = parts.folds(_inputs(examples, _with_groups(bank, tmp_path, write_records, film)))
    answers = [part.best.answers for part in grouped]
    assert sorted((one.labels[~one.known] == 2).sum() for one in answers) == [0, 0, 12 + 8]
    every = Answers.joined(answers)
    scores = every.scores()
    assert not scores.right[~every.known].any()
    assert not scores.losses[~every.known].any()
    found = summary([part.best for part in grouped], [len(part.training) for part in grouped])
    assert found["unlearned"] == [[2, 20]]


@pytest.mark.slow
@pytest.mark.parametrize(("jumps", "planned"), [(200.0, False), (130.0, True)])
def test_a_way_that_takes_longer_than_estimated_is_planned_again(
    examples, bank, monkeypatch, jumps: float, planned: bool
) -> None:
    """The clock jumps while the first fold is trained, so that the others do not fit into 300 s."""
    monkeypatch.setattr(network_search, "judge_networks", judge_networks)
    jump = [0.0]
    clock = network_search.time.monotonic
    monkeypatch.setattr(network_search.time, "monotonic", lambda: clock() + jump[0])
    trained_ways = []

    def fitted(self: object, way: ways.Way, *rest: object) -> Trained:
        found = original(self, way, *rest)
        jump[0] += 0 if trained_ways else jumps
        trained_ways.append(way)
        return found

    original = network_search._Search._fitted
    monkeypatch.setattr(network_search._Search, "_fitted", fitted)
    trained = network_search.train(_inputs(examples, bank))
    first, *others = trained_ways
    assert bool(others) == planned
    assert all(way.passes() < first.passes() for way in others)
    if not planned:
        assert trained.history["trained"] == HEAD
        ended = trained.history["search_ended"]
        assert ended["reason"] == "minutes"
        assert "There was not enough time left (train.minutes) for layers above" in ended["text"]


@pytest.mark.slow
def test_a_last_fold_that_the_time_cuts_short_judges_nothing(examples, bank, monkeypatch) -> None:
    monkeypatch.setattr(network_search, "judge_networks", judge_networks)
    trainings = []

    def above(*arguments: object, **more: object) -> Trained:
        found = original(*arguments, **more)
        trainings.append(found)
        if len(trainings) == parts.FOLDS:
            return replace(found, history={**found.history, "stopped": "minutes"})
        return found

    original = stages.above
    monkeypatch.setattr(stages, "above", above)
    trained = network_search.train(_inputs(examples, bank))
    assert len(trainings) == parts.FOLDS
    assert trained.history["trained"] == HEAD
    assert trained.history["search_ended"]["reason"] == "minutes"


def test_few_groups_leave_the_judgement_to_validation(
    examples, bank, write_records, tmp_path
) -> None:
    def film(split: str, i: int, label: int) -> bytes:
        return f"film {i % 5}".encode()

    grouped = _with_groups(bank, tmp_path, write_records, film)
    assert parts.folds(_inputs(examples, grouped)) == []


def test_folds_judge_if_there_are_few_images() -> None:
    assert judge_networks(train=301, validation=199)
    assert not judge_networks(train=302, validation=199)
    assert not judge_networks(train=300, validation=200)


class _AtTheEnd(_Said):
    """A display on which a person presses Ctrl-C when the kept network is trained once more."""

    def total(self, count: int, unit: str) -> None:
        """End the search at the training after those of the folds."""
        self.trainings = getattr(self, "trainings", 0) + (unit == "epochs")
        self.ends = self.trainings > parts.FOLDS


@pytest.mark.slow
def test_a_network_whose_last_training_is_ended_is_not_shipped(examples, bank, monkeypatch) -> None:
    monkeypatch.setattr(network_search, "judge_networks", judge_networks)
    with progress.shown_by(_AtTheEnd()):
        trained = network_search.train(_inputs(examples, bank))
    assert trained.history["trained"] == HEAD
    assert trained.history["search_ended"]["reason"] == "interrupted"


def test_too_little_time_keeps_the_head(examples, bank) -> None:
    trained = network_search.train(_inputs(examples, bank, minutes=1e-7))
    assert trained.history["trained"] == HEAD
    assert trained.history["search_ended"]["reason"] == "minutes"
    assert "would have taken about" in trained.history["search_ended"]["text"]
    assert len(trained.history["search"]) == 1


def test_activations_that_do_not_fit_end_the_search(examples, bank, monkeypatch) -> None:
    usage = type("Usage", (), {"free": 0})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    trained = network_search.train(_inputs(examples, bank))
    assert trained.history["trained"] == HEAD
    assert trained.history["search_ended"]["reason"] == "space"
    assert "of the free space in " in trained.history["search_ended"]["text"]


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (MemoryError(), "memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk"),
    ],
)
def test_a_network_that_memory_or_disk_cannot_hold_is_not_kept(
    examples, bank, monkeypatch, error: Exception, failure: str
) -> None:
    def lacking(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(stages, "fit", lacking)
    trained = network_search.train(_inputs(examples, bank))
    tried = trained.history["search"][1:]
    assert {row["failure"] for row in tried} == {failure}
    assert trained.history["trained"] == HEAD


def test_a_person_who_ends_the_search_gets_the_best_network_so_far(examples, bank) -> None:
    with progress.shown_by(_Said(ends=True)):
        trained = network_search.train(_inputs(examples, bank))
    assert trained.history["trained"] == HEAD
    assert trained.history["search_ended"]["reason"] == "interrupted"


class _AfterTheLast(_Said):
    """A display on which a person presses Ctrl-C when the last network has been judged."""

    heard = False

    def say(self, text: str) -> None:
        """Keep the sentence, and end the search at the first network that is kept."""
        super().say(text)
        self.ends = text.endswith(", kept")

    def stopped(self) -> bool:
        """Return whether the person has ended the search."""
        self.heard = self.heard or self.ends
        return self.ends


@pytest.mark.slow
def test_a_person_who_ends_a_search_that_has_just_ended_is_heard(examples, bank) -> None:
    """Otherwise `Listener.stoppable` would end the run, and the network would be lost."""
    display = _AfterTheLast()
    with progress.shown_by(display):
        trained = network_search.train(_inputs(examples, bank))
    assert display.heard
    assert trained.history["search_ended"]["reason"] == "enough"


@pytest.mark.parametrize("mode", ["off", "search"])
def test_without_minutes_or_with_the_mode_off_there_is_no_search(examples, bank, mode) -> None:
    minutes = 0.0 if mode == "search" else None
    settings = {"minutes": minutes, "fine_tune": FineTune(mode=mode)}
    trained = network_search.train(_inputs(examples, bank, **settings))
    assert trained.history["trained"] == HEAD
    assert "search" not in trained.history


def test_settings_that_fix_the_training_disable_the_search() -> None:
    assert ModelSettings().searches
    assert not ModelSettings(optimizer="adam").searches
    assert not ModelSettings(hidden_units=8).searches
    assert not ModelSettings(fine_tune=FineTune(mode="auto")).searches
    assert not ModelSettings(freeze="none").searches
    assert not ModelSettings(weights="none").searches
    assert ModelSettings(weights="none", freeze="all").searches


@pytest.fixture(scope="module")
def network():
    """Return the backbone's network with random weights."""
    return ways.backbone_of(ModelSettings(weights="none", freeze="all"))


def _varied(settings: ModelSettings, network, side: int = 0) -> list[tuple[str, int, float]]:
    """Return cut, image size and learning rate of the networks to try."""
    found = ways.ways(settings, network, side)
    return [(way.cut, way.image_size, way.learning_rate) for way in found]


def test_networks_to_try_are_ordered_by_gain_per_cost(network) -> None:
    assert _varied(ModelSettings(), network) == [
        ("block8_project", 224, 5e-4),
        ("block3_project", 224, 2.5e-4),
        ("block8_project", 224, 1e-3),
        ("block8_project", 224, 1e-4),
        ("block8_project", 288, 2.5e-4),
    ]
    first, second, *_ = ways.ways(ModelSettings(), network)
    assert 0.3 < first.share < 0.6 and first.share < second.share < 1


@pytest.mark.parametrize(("side", "first"), [(100, 128), (128, 128), (129, 224), (0, 224)])
def test_small_images_are_tried_at_a_small_size_first(network, side, first) -> None:
    assert _varied(ModelSettings(), network, side)[0] == ("block8_project", first, 5e-4)


@pytest.mark.parametrize(
    ("settings", "different"),
    [
        (ModelSettings(image_size=160), 1),
        (ModelSettings(weights="none", freeze="all"), 1),
        (ModelSettings(builder="my_module:build", weights="none"), 1),
        (ModelSettings(pooling="flatten"), 1),
        (ModelSettings(backbone="mobilenet_v2"), 1),
    ],
    ids=["a size", "random weights", "a builder", "a head for one size", "weights of one size"],
)
def test_an_image_size_that_is_set_is_not_varied(network, settings, different) -> None:
    found = ways.allowed(settings, 28)
    assert len({idea.size for idea in found}) == different


def test_layers_between_tokens_are_no_cuts() -> None:
    pixels = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 8, 8, name="patches")(pixels)
    x = keras.layers.Reshape((16, 8))(x)
    for number in range(6):
        x = keras.layers.Dense(8, name=f"token{number}")(x)
    x = keras.layers.Reshape((4, 4, 8), name="map")(x)
    x = keras.layers.Conv2D(8, 1, name="last")(x)
    found = ways.ways(ModelSettings(), keras.Model(pixels, x))
    assert found and {way.cut for way in found} <= {"patches", "map"}


def test_a_network_without_a_cut_is_not_searched() -> None:
    pixels = keras.Input((32, 32, 3))
    x = pixels / 255.0
    both = keras.layers.Conv2D(4, 3)(x) + keras.layers.Conv2D(4, 3)(x)
    network = keras.Model(pixels, both)
    assert ways.ways(ModelSettings(), network) == []
    with pytest.raises(ConfigError, match="no layer above which layers could be trained"):
        cuts.layer_at(network, cuts.USUAL)


@pytest.mark.slow
def test_a_gain_in_one_film_is_not_kept(examples, bank, monkeypatch) -> None:
    """All validation images count as one film, whose error cannot be known."""
    stage = replace(_SETTINGS.fine_tune, epochs=1)
    head = stages.train(_inputs(examples, bank, fine_tune=stage))
    assert len(head.answers.groups) == len(head.answers.labels)
    one = np.full(len(head.answers.labels), b"film")
    film = replace(head, answers=replace(head.answers, groups=one))
    monkeypatch.setattr(stages, "train", lambda inputs: film)
    trained = network_search.train(_inputs(examples, bank))
    assert [row["kept"] for row in trained.history["search"][1:]] == [False]


def test_a_cut_and_a_learning_rate_that_are_set_are_not_varied(network) -> None:
    cut = ModelSettings(fine_tune=FineTune(cut="block11"))
    assert {way.cut for way in ways.ways(cut, network)} == {"block11"}
    both = ModelSettings(image_size=224, fine_tune=FineTune(cut="block11", learning_rate=1e-3))
    assert _varied(both, network) == [("block11", 224, 1e-3)]


def test_views_and_epochs_are_reduced_to_the_time_that_is_left() -> None:
    way = ways.Way("block8", 100, 5e-4, epochs=4, views=4, share=0.5, gain=0.5)
    every = way.passes()
    assert every == pytest.approx(5 * (1 + 4 * 0.5 * 4) * 100**2)
    assert way.within(every) == way
    assert way.within(0.9 * every) == replace(way, epochs=3)
    assert way.within(0.3 * every) == replace(way, views=1, epochs=2)
    assert way.within(1.0) is None


@pytest.mark.slow
def test_time_that_the_plan_did_not_need_is_spent_on_more_epochs(
    examples, bank, monkeypatch
) -> None:
    """The first estimate is much too high, so that fewer epochs are planned than there is time."""
    settings = replace(_SETTINGS, minutes=60.0)
    [way, *_] = ways.ways(settings, ways.backbone_of(settings))
    planned = 0.99 * 60 * settings.minutes / replace(way, epochs=15).passes()
    monkeypatch.setattr(
        image_rows, "seconds_a_view", lambda images, extractor: planned * _SIZE**2 / len(images)
    )
    monkeypatch.setattr(network_search, "FEWEST_CORRECTED", 0.0)
    monkeypatch.setattr(network_search, "ENOUGH", 1.1)
    trained = network_search.train(_inputs(examples, bank, minutes=60.0))
    _, first, second, *_ = trained.history["search"]
    assert first["what"] == str(replace(way, epochs=15)) and first["kept"]
    assert second["what"] == str(way), "the same way again, with all of its epochs"


@pytest.mark.slow
def test_two_networks_without_gain_end_the_search(examples, bank, monkeypatch) -> None:
    """Every gain counts as noise here. After a loss, a smaller learning rate is tried."""
    monkeypatch.setattr(network_search, "FEWEST_CORRECTED", 0.0)
    stage = replace(_SETTINGS.fine_tune, epochs=1)
    monkeypatch.setattr(ways, "FineTune", lambda: stage)
    monkeypatch.setattr(network_search, "better", lambda new, old: False)
    trained = network_search.train(_inputs(examples, bank, fine_tune=stage))
    head, *tried = trained.history["search"]
    assert [row["kept"] for row in (head, *tried)] == [True, False, False]
    assert [re.findall(r"rate ([\d.]+)", row["what"]) for row in tried] == [["0.05"], ["0.01"]]
    assert trained.history["search_ended"] == {
        "reason": "no_gain",
        "text": "The last 2 networks were not better by more than noise.",
    }
    assert trained.history["trained"] == HEAD
    assert trained.image_size == 0


def test_activations_are_those_of_the_extractor(examples) -> None:
    patterns = [str(examples / f"{names.TRAIN}-*")]
    extractor = _extractor()
    maps = image_rows.activations(Labelled.read(patterns), extractor, 1)
    assert len(maps) == 72
    assert image_rows.activations(Labelled.read(patterns), extractor, 1, lambda: True) is None
    pixels = {
        hashlib.sha256(image).hexdigest(): (label, image)
        for seed, label in ((i, i % 3) for i in range(36))
        for image in [encoded(_pixels(label, seed), "PNG")]
    }
    hashes = sorted(pixels)
    images = [pixels[one][1] for one in hashes]
    expected = np.concatenate(extractor.extract(images, hashes, [[0, 1]] * 36))
    np.testing.assert_array_equal(maps.stored.reshape(72, -1), expected[:, extractor.dim :])
    assert maps.labels.tolist() == [pixels[one][0] for one in hashes for _ in range(2)]


def test_training_stops_with_the_best_weights_when_the_time_is_over(examples) -> None:
    settings = replace(_SETTINGS, epochs=50, patience=50).second_stage()
    settings = replace(settings, epochs=50)
    patterns = [str(examples / f"{names.TRAIN}-*")]
    maps = image_rows.activations(Labelled.read(patterns), _extractor(), 0)
    found = fit(
        lambda: stages.network(3, settings, _CUT), maps, maps, 3, settings, over=lambda: True
    )
    assert found.stopped == "minutes"
    assert len(found.epochs) == 1
    assert found.best_epoch == 1
