"""Tests that the solved head is as good as a trained one, repeatable and judged without bias."""

import dataclasses

import keras
import numpy as np
import pytest

from imgpipe.models import names
from imgpipe.models.features.bank import BankRows, Regression, read_rows
from imgpipe.models.features.folds import FOLDS
from imgpipe.models.head import logistic_regression, solved_head
from imgpipe.models.head.answers import Answers
from imgpipe.models.head.logistic_regression import LogisticRegression
from imgpipe.models.head.ridge_regression import RidgeRegression
from imgpipe.models.head.solved_head import PENALTIES, HeadSolver, SolvedHead
from imgpipe.models.settings.settings import Settings
from imgpipe.models.training.training_loop import Fit, solve_head
from tests.models.banks import best, fit_head, rows_of, write_bank
from tests.models.banks import clean as clean_rows
from tests.network_settings import network_settings

_LOGISTIC_ALONE = {**PENALTIES, "ridge_regression": ()}


def _fit(rows: tuple[BankRows, BankRows], classes: int = 3, **settings: object) -> Fit:
    return fit_head(*rows, classes, network_settings(**settings))


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> tuple[BankRows, BankRows]:
    bank = write_bank(tmp_path_factory.mktemp("bank"), spread=2.0)
    return read_rows(bank, names.TRAIN, 3), read_rows(bank, names.VALIDATION, 3)


def _accuracy(fit: Fit, rows: BankRows) -> float:
    logits = fit.layers.predict_on_batch(rows.features.astype(np.float32))
    return float((logits.argmax(1) == rows.labels).mean())


@pytest.mark.parametrize(("classes", "activation", "units"), [(2, "auto", 1), (2, "softmax", 2)])
def test_the_keras_head_classifies_like_the_solution(tmp_path, classes, activation, units):
    bank = write_bank(tmp_path, classes=classes, spread=2.0)
    rows = read_rows(bank, names.TRAIN, classes), read_rows(bank, names.VALIDATION, classes)
    fit = _fit(rows, classes, activation=activation)
    assert fit.layers.get_layer("classifier").units == units
    assert _accuracy(fit, rows[1]) == best(fit)["val_accuracy"]
    assert _accuracy(fit, rows[0]) == best(fit)["accuracy"]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_losses_are_those_of_a_head_that_is_trained_by_epochs(rows, smoothing):
    """Otherwise the history would have losses of two kinds."""
    fit = _fit(rows, label_smoothing=smoothing)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    for prefix, part in (("", rows[0]), ("val_", rows[1])):
        logits = fit.layers.predict_on_batch(part.features.astype(np.float32))
        expected = float(loss(np.eye(3)[part.labels], logits))
        assert best(fit)[f"{prefix}loss"] == pytest.approx(expected, rel=1e-4)


def test_the_same_rows_give_the_same_weights(rows):
    first, second = _fit(rows), _fit(rows)
    for one, other in zip(first.layers.get_weights(), second.layers.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert first.solution == second.solution


def test_folds_of_rows_that_were_judged_are_not_solved_again(rows, monkeypatch):
    """FeatureBank judges the rows on which ImageTrainer then solves the head, elsewhere."""
    solved: list[float] = []

    def counting(method: type) -> None:
        minimise = method.minimise

        def counted(self, penalty):
            solved.append(penalty)
            return minimise(self, penalty)

        monkeypatch.setattr(method, "minimise", counted)

    settings = Settings()
    chosen = HeadSolver(rows[0], 3, settings).judge().regression
    expected = HeadSolver(rows[0], 3, settings).solve()
    stored = dataclasses.replace(rows[0], regression=chosen)
    assert HeadSolver(stored, 3, settings).solve().solution == expected.solution
    for method in (LogisticRegression, RidgeRegression):
        counting(method)
    found = HeadSolver(stored, 3, settings).solve(learning_curve=False)
    assert solved == [found.solution["l2"]] * (FOLDS + 1)
    solved.clear()
    HeadSolver(rows[0], 3, settings).solve(learning_curve=False)
    assert len(solved) > 3 * FOLDS


def test_the_penalty_is_chosen_by_cross_validation_of_training_rows(rows):
    fit = _fit(rows)
    other_validation = _fit((rows[0], clean_rows(rows[0])))
    assert fit.solution["l2"] in PENALTIES[fit.solution["method"]]
    assert fit.solution == other_validation.solution, "validation has no part in the choice"
    assert fit.solution["images"] == len(np.unique(rows[0].hashes))
    assert fit.solution["accuracy"] == pytest.approx(best(fit)["val_accuracy"], abs=0.15)


def test_noise_gets_a_strong_penalty(rows):
    shuffled = np.random.default_rng(0).permutation(rows[0].labels[rows[0].views == 0])
    clean = clean_rows(rows[0])
    noise = dataclasses.replace(clean, labels=shuffled)
    fit = _fit((noise, rows[1]))
    assert fit.solution["l2"] >= 1


def test_without_the_learning_curve_the_head_is_the_same(rows):
    train, validation = rows
    solver = HeadSolver(train, 3, Settings())
    whole = solve_head(solver, validation)
    short = solve_head(solver, validation, learning_curve=False)
    of_curve = {key: whole.solution[key] for key in ("learning_curve", "gain_error")}
    assert {**short.solution, **of_curve} == whole.solution
    for one, other in zip(whole.layers.get_weights(), short.layers.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_long_films_have_folds_of_some_images_of_each(rows, monkeypatch):
    """Twelve films have five images each; whole films would be too few for folds."""
    clean = clean_rows(rows[0])
    films = np.array([b"film %d" % (number % 12) for number in range(len(clean))])
    grouped = dataclasses.replace(clean, groups=films)
    monkeypatch.setattr(solved_head, "_CHOOSING", 36)
    settings = Settings()
    scores = HeadSolver(grouped, 3, settings).judge().scores
    assert len(scores.right) == HeadSolver(grouped, 3, settings).solve().solution["images"] <= 36
    assert len(np.unique(scores.groups)) >= 2 * FOLDS


@pytest.mark.slow
def test_one_long_film_does_not_crowd_out_the_other_images(rows, monkeypatch):
    clean = clean_rows(rows[0])
    monkeypatch.setattr(solved_head, "_CHOOSING", 40)
    for name in range(20):  # which decides whether the film comes early or late
        groups = np.array([b"image %d" % number for number in range(len(clean))])
        groups[30:] = b"film %d" % name
        grouped = dataclasses.replace(clean, groups=groups)
        scores = HeadSolver(grouped, 3, Settings()).judge().scores
        assert len(scores.right) >= 30
        assert len(np.unique(scores.groups)) >= 30


def _drawn_rows(sizes: list[int], groups: list[bytes]) -> BankRows:
    """Return rows of as many images of each class as `sizes` says, with the given groups."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    features = 0.8 * random.normal(size=(len(labels), 16)) + np.eye(4, 16)[labels]
    return rows_of(features, labels, np.array(groups))


def _solved(rows: BankRows) -> SolvedHead:
    return HeadSolver(rows, 4, Settings()).solve()


def test_a_class_that_is_one_group_counts_as_wrong_and_does_not_choose_the_penalty(monkeypatch):
    """No head could know the class in the fold that holds all of its images."""
    monkeypatch.setattr(solved_head, "PENALTIES", _LOGISTIC_ALONE)
    groups = [b"image %d" % number for number in range(120)]
    three = _solved(_drawn_rows([40, 40, 40], groups))
    four = _solved(_drawn_rows([40, 40, 40, 40], [*groups, *[b"film"] * 40]))
    assert (three.solution["images"], four.solution["images"]) == (120, 160)
    assert 0.1 <= four.solution["l2"] / three.solution["l2"] <= 10
    assert four.solution["accuracy"] == pytest.approx(three.solution["accuracy"] * 3 / 4, abs=0.1)
    assert four.solution["learning_curve"][-1]["accuracy"] == four.solution["accuracy"]


def _nearly_constant(images: int, excited: int, seed: int) -> BankRows:
    """Return rows of four classes whose last feature varies in some images alone."""
    draw = np.random.default_rng(seed)
    labels = np.arange(images) % 4
    features = draw.normal(size=(images, 40)) + 2.5 * np.eye(4, 40)[labels]
    features[:, -1] *= 0.001
    features[:excited, -1] = 3.0
    groups = [b"film" if number < excited else b"%064x" % number for number in range(images)]
    return rows_of(features, labels, np.array(groups))


def _largest_loss(head: SolvedHead, rows: BankRows) -> float:
    answers = head.linear.log_probabilities(rows.features)
    return float(-answers[np.arange(len(rows)), rows.labels].min())


@pytest.mark.parametrize("method", ["logistic_regression", "ridge_regression"])
def test_a_feature_that_only_a_new_image_excites_does_not_decide_alone(method, monkeypatch):
    """Its deviation among the images to learn from is a thousandth of that of the others."""
    weak = Regression(method, 0.001)
    learned = dataclasses.replace(_nearly_constant(200, 0, seed=0), regression=weak)
    new = _nearly_constant(8, 8, seed=1)
    with_least_unit = HeadSolver(learned, 4, Settings()).solve(learning_curve=False)
    monkeypatch.setattr(logistic_regression, "_LEAST_UNIT", 0.0)
    without = HeadSolver(learned, 4, Settings()).solve(learning_curve=False)
    assert _largest_loss(without, new) > 100
    assert _largest_loss(with_least_unit, new) < 12


@pytest.mark.parametrize("method", ["logistic_regression", "ridge_regression"])
def test_a_fold_is_scaled_by_the_rows_that_its_head_learns_from(method, monkeypatch):
    """So it shows what new images show. A scaled value of n rows could not exceed the root of n."""
    monkeypatch.setattr(logistic_regression, "_LEAST_UNIT", 0.0)
    rows = _nearly_constant(200, 8, seed=0)
    folds = HeadSolver(rows, 4, Settings()).out_of_fold(Regression(method, 0.001))
    answers = Answers.joined(folds)
    of_labels = answers.logits[np.arange(len(rows)), answers.labels]
    assert (of_labels[answers.groups == b"film"]).min() < -100
