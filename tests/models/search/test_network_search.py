"""The search for a better network than a solved head that a penalty leaves weak."""

import errno
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from imgpipe.models import names
from imgpipe.models.features.rows import Labelled
from imgpipe.models.finding import make_finding
from imgpipe.models.head import solved_head
from imgpipe.models.head.solved_head import PENALTIES
from imgpipe.models.machine import progress
from imgpipe.models.network.classifier import build_classifier
from imgpipe.models.search import judging, network_search
from imgpipe.models.search.judging import network_folds
from imgpipe.models.settings.course import FineTune
from imgpipe.models.settings.section import AUTOMATIC
from imgpipe.models.training import datasets
from imgpipe.models.training.history import describe_tried
from imgpipe.models.training.stages import HEAD, Inputs, Trained
from imgpipe.models.training.training_loop import Fit, Training
from tests.models import noise_data
from tests.models.noise_data import CUT, TRAIN, VALIDATION
from tests.network_settings import network_settings

_STAGE = noise_data.SETTINGS.course.fine_tune.model_copy(
    update={"learning_rate": 0.05, "epochs": 25, "schedule": "constant"}
)
_SETTINGS = network_settings(noise_data.SETTINGS, minutes=5.0, fine_tune=_STAGE)
_ALL = TRAIN + VALIDATION
Given = Callable[..., Inputs]


@pytest.fixture(autouse=True, scope="module")
def judged_on_validation() -> Iterator[None]:
    """Let the validation split judge, although it is small, a head that is bad."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "network_folds", lambda images, independent: 0)
        strong = dict.fromkeys(PENALTIES, (1e20,))  # of a head that is no better than chance
        usual = ("logistic_regression", 1e20)
        for name, value in (("PENALTIES", strong), ("_USUAL", usual)):
            patch.setattr(solved_head, name, value)
        yield


@pytest.fixture(scope="module")
def given(noise_images, noise_bank) -> Given:
    return lambda **changed: noise_data.inputs(noise_images, noise_bank, _SETTINGS, **changed)


class _Said(progress.Listener):
    def __init__(self) -> None:
        self.said: list[str] = []
        self.left: list[float] = []

    def part(self, text: str, left: float | None) -> None:
        if left is not None:
            self.left.append(left)

    def say(self, text: str) -> None:
        self.said.append(text)


def _ended(trained: Trained) -> str:
    return str(trained.history["search_ended"]["reason"])


def _shown(inputs: Inputs) -> tuple[Trained, _Said]:
    display = _Said()
    with progress.shown_by(display):
        return network_search.train(inputs), display


@pytest.fixture(scope="module")
def searched(given) -> tuple[Trained, _Said]:
    return _shown(given())


def test_a_better_network_than_the_head_is_found_and_kept(searched):
    trained, display = searched
    said = display.said
    head, tuned = trained.history["search"]
    assert head["what"] == "head (the last layer, on the features of a trained network)"
    assert head["accuracy"] < 0.7, "the penalty leaves little of the head"
    assert tuned["what"].startswith(f"layers above {CUT}, ")
    assert (head["kept"], tuned["kept"]) == (False, True)
    assert tuned["gain"] > 2 * tuned["standard_error"]
    assert tuned["accuracy"] == pytest.approx(head["accuracy"] + tuned["gain"])
    assert trained.history["trained"].startswith(f"layers above {CUT}")
    assert trained.features == "average", "which its head reads, whatever that of the run reads"
    assert not trained.by_folds
    assert trained.history["fine_tune"]["accuracy"] == trained.answers.accuracy
    assert trained.history["solution"]["accuracy"] < network_search.ENOUGH
    assert all(0 < left <= 300 for left in display.left), "the minutes given"
    assert len(said) == 2, "one line before the training, and one after it"
    assert re.fullmatch(
        r"The head reaches 0\.\d{3} in cross-validation\. A network that may be better is "
        r"tried, for about [\d.]+ minutes if it pays: layers above pool2, 25 epochs of 2 views "
        r"\(--minutes 0 skips it\)\.",
        said[0],
    )
    assert said[1] == describe_tried(tuned)
    assert re.fullmatch(
        r"layers above pool2.*: validation accuracy in training \d\.\d{3} \(\+\d\.\d{3}, "
        r"standard error \d\.\d{3}\), \d+ s, kept",
        said[1],
    )


def test_the_network_that_was_kept_is_shipped(searched, noise_images):
    trained, _ = searched
    classifier = build_classifier(trained.layers, ["a", "b", "c"], _SETTINGS)
    validation = Labelled.read([str(noise_images / f"{names.VALIDATION}-*")])
    right = 0
    for places, images in validation.values(names.IMAGE_BYTES):
        answers = classifier.probabilities(images.tolist()).argmax(1)
        right += (answers == validation.labels[places]).sum()
    assert right / VALIDATION == pytest.approx(trained.history["fine_tune"]["accuracy"])


_NO_SPACE = {"shutil.disk_usage": lambda folder: type("Usage", (), {"free": 0})}


@pytest.mark.parametrize(
    ("minutes", "patched", "reason", "reproducible", "sentence"),
    [
        (5.0, {"ENOUGH": 0.0}, "enough", "weights", "in cross-validation over the training images"),
        (
            5.0,
            {"FEWEST_MISTAKES": _ALL},
            "few_mistakes",
            "weights",
            r"Nothing else was tried: the head reaches 0\.\d+ in cross-validation, and a head of "
            rf"this accuracy is wrong on fewer than {_ALL} of \d+ held-out images, so that the "
            r"gain of another network could not be distinguished from chance\.",
        ),
        (None, {}, "few_images", "weights", "Up to 500, only the head is trained"),
        (
            1e-7,
            {},
            "minutes",
            "weights",
            r"Nothing else was tried, because even layers above pool2, 1 epoch of 1 view would "
            r"take about [\d.]+ minutes on two ordinary cores, which is more than a run spends on "
            "that; --minutes sets another limit",
        ),
        (
            None,
            {"_FEW": 0, "nominal_seconds_a_view": lambda *given: 1e3},
            "cost",
            "weights",
            "on two ordinary cores, which is more than a run spends on that",
        ),
        (
            None,
            {"_FEW": 0} | _NO_SPACE,
            "space",
            "nothing",
            "the activations for layers above pool2, 25 epochs of 2 views would take more than a "
            "quarter of the free space in ",
        ),
    ],
)
def test_the_head_is_kept_and_it_is_said_why_nothing_else_is_tried(
    given, monkeypatch, minutes, patched, reason, reproducible, sentence
):
    for name, value in patched.items():
        place = name if "." in name else f"imgpipe.models.search.network_search.{name}"
        monkeypatch.setattr(place, value)
    trained = network_search.train(given(minutes=minutes))
    (head,) = trained.history["search"]
    assert (head["what"], head["judged_by"]) == (
        "head (the last layer, on the features of a trained network)",
        "validation",
    )
    assert (_ended(trained), trained.history["reproducible"]) == (reason, reproducible)
    assert re.search(sentence, trained.history["search_ended"]["sentence"])
    assert trained.history["trained"] == HEAD
    assert trained.history["learned"] == {names.TRAIN: TRAIN}, "the head is that of all of train"


def test_the_folds_tell_whether_a_gain_could_be_seen(given, monkeypatch):
    def without_mistakes(*arguments):
        judges = judging.judging_parts(*arguments)
        (part,) = judges.parts
        answers = part.best.answers
        right = replace(answers, logits=20 * np.eye(3, dtype=np.float32)[answers.labels])
        part = replace(part, best=replace(part.best, answers=right))
        return judges._replace(parts=[part], whole=part)

    monkeypatch.setattr(network_search, "judging_parts", without_mistakes)
    trained = network_search.train(given(fine_tune=_STAGE.model_copy(update={"epochs": 3})))
    head, tuned = trained.history["search"]
    assert head["accuracy"] == 1.0
    assert tuned["what"].startswith(f"layers above {CUT}, ") and tuned["kept"] is False


def test_the_network_that_ships_learns_from_as_many_images_as_the_head(given):
    trained = network_search.train(replace(given(), folds=AUTOMATIC))
    head, tuned = trained.history["search"]
    assert (head["judged_by"], tuned["judged_by"]) == ("validation", "validation")
    assert tuned["kept"] is True
    validation = Labelled.read([str(given().validation_files[0])])
    assert set(trained.answers.hashes.tolist()) == set(validation.hashes.tolist())
    assert trained.history["solution"]["learning_curve"]
    assert trained.history["learned"] == {names.TRAIN: TRAIN, names.VALIDATION: VALIDATION}
    assert trained.history["cross_validation"] is None, "validation decides"
    assert trained.history["fine_tune"]["accuracy"] == trained.answers.accuracy == tuned["accuracy"]
    assert not trained.by_folds
    assert trained.history["fine_tune"]["epochs"][-1]["val_accuracy"] is None


@pytest.mark.parametrize(
    ("head_folds", "folds", "what"),
    [
        (0, 0, "1 epoch of 2 views"),
        # Of few validation images, those of a fold tell, although validation would judge.
        (AUTOMATIC, 0, "1 epoch of 2 views, in 1 of 3 folds"),
        (0, 3, "1 epoch of 2 views, in 1 of 3 folds"),
    ],
)
def test_a_short_training_shows_a_worse_network(given, monkeypatch, head_folds, folds, what):
    """The head is good, and the learning rate spoils the network that begins with it."""
    monkeypatch.setattr(judging, "network_folds", lambda images, independent: folds)
    monkeypatch.setattr(solved_head, "PENALTIES", PENALTIES)
    monkeypatch.setattr(network_search, "ENOUGH", 2.0)
    monkeypatch.setattr(network_search, "FEWEST_MISTAKES", 0)
    trainings: list[Fit] = []
    fit = Training.fit

    def fitted(*arguments: object, **options: object) -> Fit:
        trainings.append(fit(*arguments, **options))
        return trainings[-1]

    monkeypatch.setattr(Training, "fit", fitted)
    inputs = given(fine_tune=_STAGE.model_copy(update={"learning_rate": 5.0}))
    trained, display = _shown(replace(inputs, folds=head_folds))
    head, tuned = trained.history["search"]
    assert (head["kept"], tuned["kept"], _ended(trained)) == (True, False, "no_gain")
    assert "ended after a part of the work" in trained.history["search_ended"]["sentence"]
    assert tuned["what"] == f"layers above pool2, {what}"
    (training,) = trainings
    assert len(training.stage["epochs"]) == int(what.split()[0])
    assert tuned["judged_by"] == ("folds" if "folds" in what else "validation")
    assert (trained.history["trained"], trained.history["reproducible"]) == (HEAD, "weights")
    assert display.said[1] == describe_tried(tuned)


@pytest.mark.slow
def test_few_validation_images_leave_the_judgement_to_folds(given, monkeypatch):
    monkeypatch.setattr(judging, "network_folds", network_folds)
    trained, display = _shown(replace(given(), folds=AUTOMATIC))
    head, tuned = trained.history["search"]
    assert (head["judged_by"], tuned["judged_by"], tuned["kept"]) == ("folds", "folds", True)
    assert tuned["gain"] > 2 * tuned["standard_error"]
    correct = tuned["accuracy"] * _ALL
    assert correct == pytest.approx(round(correct))
    found = trained.history["cross_validation"]
    assert (found["folds"], found["images"], found["groups"]) == (3, _ALL, _ALL)
    assert found["correct"] == round(correct) == trained.answers.right.sum()
    assert [fold["trained_on"] + fold["images"] for fold in found["per_fold"]] == [_ALL] * 3
    assert "cross-validation accuracy" in display.said[1]
    assert trained.history["learned"] == {names.TRAIN: TRAIN, names.VALIDATION: VALIDATION}
    fine_tune = trained.history["fine_tune"]
    assert fine_tune["accuracy"] == trained.answers.accuracy > 0.9
    assert fine_tune["head_accuracy"] == head["accuracy"], "in the same folds"
    assert fine_tune["best_epoch"] == len(fine_tune["epochs"]), "the last one, as in the folds"
    assert trained.history["trained"] == f"layers above {CUT}"


@pytest.mark.parametrize(
    ("error", "failure", "said"),
    [
        (MemoryError(), "memory", "memory ran out"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk", "the disk was full"),
    ],
)
def test_a_network_beyond_memory_or_disk_is_not_kept(given, monkeypatch, error, failure, said):
    def lacking(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(Training, "fit", lacking)
    trained = network_search.train(given())
    rows = trained.history["search"][1:]
    assert {row["failure"] for row in rows} == {failure}
    assert all(
        describe_tried(row).endswith(" s, not kept") and said in describe_tried(row) for row in rows
    )
    assert trained.history["trained"] == HEAD


@pytest.mark.parametrize("mode", ["off", "search"])
def test_without_minutes_or_with_the_mode_off_there_is_no_search(given, mode):
    minutes = 0.0 if mode == "search" else None
    trained = network_search.train(given(minutes=minutes, fine_tune=FineTune(mode=mode)))
    assert trained.history["trained"] == HEAD
    assert trained.history["search"] is None


@pytest.fixture
def many(given, monkeypatch) -> Given:
    """Return `given` where there are so many images that a search needs no minutes."""
    monkeypatch.setattr(network_search, "_FEW", 0)
    return given


@pytest.mark.parametrize("minutes", [None, 4.0])
def test_a_slow_machine_trains_the_same_and_counts_down_how_long(many, monkeypatch, minutes):
    digests = set()
    for seconds in (1e-6, 0.1):
        monkeypatch.setattr(datasets, "seconds_a_pass", lambda extractor, s=seconds: s)
        trained, display = _shown(many(minutes=minutes))
        printed = re.search(
            r"for about ([\d.]+) minutes? if it pays: layers above pool2, 25 epochs of 2 views",
            display.said[0],
        )
        assert printed is not None
        assert trained.history["search"][1]["what"] == "layers above pool2, 25 epochs of 2 views"
        assert trained.history["search_ended"] == make_finding("all", "")
        assert trained.history["reproducible"] == "weights"
        weights = b"".join(values.tobytes() for values in trained.layers.get_weights())
        digests.add(hashlib.sha256(weights).hexdigest())
    assert len(digests) == 1
    assert display.left[0] == pytest.approx(60 * float(printed[1]), abs=3)
    assert display.left == sorted(display.left, reverse=True)


def test_without_minutes_the_cost_of_the_data_limits_views_and_epochs(many, monkeypatch):
    monkeypatch.setattr(network_search, "nominal_seconds_a_view", lambda *given: 1.0)
    trained = network_search.train(many(minutes=None))
    assert (_ended(trained), trained.history["reproducible"]) == ("all", "weights")
    _, tuned = trained.history["search"]
    epochs, views = map(int, re.findall(r"(\d+) (?:epochs|views?)", tuned["what"]))
    assert 1 <= epochs * views < 25 * 2


def test_minutes_that_allow_less_than_the_whole_training_have_decided(given, monkeypatch):
    monkeypatch.setattr(network_search, "nominal_seconds_a_view", lambda *given: 1.5)
    trained = network_search.train(given())
    ended = trained.history["search_ended"]
    assert (ended["reason"], trained.history["reproducible"]) == ("minutes", "weights")
    assert (
        "The minutes that were given (5 minutes) have decided what was trained" in ended["sentence"]
    )
    assert "it would have been layers above pool2, 25 epochs of 2 views" in ended["sentence"]


@pytest.mark.slow
def test_a_gain_in_one_film_is_not_kept(tmp_path):
    """All validation images are one film, whose error cannot be known."""

    def group_of(split: str, i: int, label: int) -> bytes:
        return f"{i if split == names.TRAIN else split}".encode()

    trained = network_search.train(noise_data.grouped(tmp_path, group_of, _SETTINGS))
    assert [row["kept"] for row in trained.history["search"][1:]] == [False]


def test_a_network_that_has_learned_from_its_judges_ends_the_run(given, monkeypatch):
    """Without `_restore`, the network of a fold would go on from that of the fold before."""
    monkeypatch.setattr(judging, "network_folds", network_folds)
    monkeypatch.setattr(network_search, "gains", lambda *arguments, **options: True)
    inputs = replace(given(fine_tune=_STAGE.model_copy(update={"epochs": 3})), folds=AUTOMATIC)
    assert network_search.train(inputs).history["search"][1]["judged_by"] == "folds"
    monkeypatch.setattr(Training, "_restore", lambda training: None)
    with pytest.raises(
        RuntimeError, match=r"layers above pool2: 20 of the 20 images that judge.*defect of imgpipe"
    ):
        network_search.train(inputs)


def test_images_of_families_that_train_has_judge_no_network(tmp_path):
    families = noise_data.half_in_train
    inputs = noise_data.grouped(tmp_path, families, _SETTINGS)
    trained = network_search.train(replace(inputs, folds=AUTOMATIC))
    head, tuned = trained.history["search"]
    assert (head["judged_by"], tuned["judged_by"], tuned["kept"]) == ("validation",) * 2 + (True,)
    assert len(trained.answers) == VALIDATION // 2
    train = Labelled.read([f"{inputs.bank_uri}/Split-{names.TRAIN}/*"])
    assert not np.isin(trained.answers.groups, train.families).any()
