"""Tests of temperature and doubtful labels, with cases whose results are known."""

import numpy as np
import pytest

from imgpipe.models.head import calibration as module
from imgpipe.models.head.calibration import (
    calibrate,
    confidence_error,
    error_by_chance,
    fit_temperature,
    wrong_label_probabilities,
)

_CLASSES = 5


def _drawn(count: int, scale: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return logits [count, 4] and labels of a calibrated classifier; the logits are scaled."""
    random = np.random.default_rng(seed)
    logits = random.normal(scale=2.0, size=(count, 4))
    chances = module.softmax(logits)
    labels = (chances.cumsum(axis=1) > random.random((count, 1))).argmax(axis=1)
    return logits * scale, labels


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_fitted_temperature_is_the_scale_of_the_logits(scale: float) -> None:
    assert fit_temperature(*_drawn(4000, scale)) == pytest.approx(scale, rel=0.1)


def test_an_overconfident_classifier_is_calibrated() -> None:
    found = calibrate(*_drawn(4000, 4.0))
    assert found["error_before"] > 0.15
    assert found["error_after"] < 0.04


@pytest.mark.parametrize("count", [4, 30, 400, 4000])
def test_a_calibrated_classifier_is_left_as_it_is(count: int) -> None:
    temperatures = [calibrate(*_drawn(count, 1.0, seed))["temperature"] for seed in range(20)]
    assert temperatures.count(1.0) >= 17  # one in twenty differs by chance


def test_few_groups_give_no_temperature() -> None:
    logits, labels = _drawn(400, 4.0)
    films = np.arange(400) // 100
    assert calibrate(logits, labels, groups=films)["temperature"] == 1.0
    assert calibrate(logits, labels)["temperature"] > 2


def test_the_calibration_error_is_the_mean_gap_by_bin() -> None:
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.4, 0.6]] * 10)
    labels = np.array([0] * 5 + [1] * 5 + [1] * 6 + [0] * 4)
    top, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    assert confidence_error(top, right) == pytest.approx((0.4 + 0.0) / 2)


@pytest.mark.parametrize("count", [60, 400, 5000])
def test_the_error_by_chance_is_the_mean_error_of_correct_probabilities(count: int) -> None:
    random = np.random.default_rng(count)
    top = random.beta(6, 1, count)
    drawn = [confidence_error(top, random.random(count) < top) for _ in range(400)]
    assert error_by_chance(top) == pytest.approx(np.mean(drawn), rel=0.1)


def _answers(sureness, share, count=2000):
    """Return probabilities of a model's labels and of other answers; a share of labels is wrong."""
    rng = np.random.default_rng(0)
    logits = sureness * rng.normal(size=(count, _CLASSES))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (shares.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
    wrong = rng.random(count) < share
    labels = np.where(wrong, (labels + rng.integers(1, _CLASSES, count)) % _CLASSES, labels)
    top = shares.argmax(axis=1)
    of_label = shares[np.arange(count), labels]
    return of_label, np.where(top == labels, 0, shares.max(axis=1)), wrong


def _doubts(of_label, of_other, classes=_CLASSES, groups=None):
    alone = np.arange(len(of_label))
    return wrong_label_probabilities(
        of_label, of_other, classes, alone if groups is None else groups
    )


@pytest.mark.parametrize("sureness", [6, 10, 30])
def test_mistakes_that_the_model_expects_are_no_doubtful_labels(sureness):
    of_label, of_other, _ = _answers(sureness, 0)
    assert np.mean(of_other > 0) > 0.01, "there are mistakes"
    assert (_doubts(of_label, of_other) > 0.5).sum() <= 2


@pytest.mark.parametrize("sureness", [6, 10, 30])
@pytest.mark.parametrize("share", [0.01, 0.05])
def test_more_than_half_of_the_doubtful_labels_are_wrong(sureness, share):
    of_label, of_other, wrong = _answers(sureness, share)
    doubtful = _doubts(of_label, of_other) > 0.5
    assert doubtful.sum() > 0.2 * wrong.sum() and wrong[doubtful].mean() > 0.5


def test_a_label_is_not_doubtful_where_most_others_of_its_film_are_contradicted():
    of_label = np.full(400, 0.999)
    of_label[[0, 1, 2, 9]] = 1e-6
    of_other = np.where(of_label < 0.5, 0.999, 0)
    films = np.arange(400)
    assert (_doubts(of_label, of_other)[[0, 1, 2, 9]] > 0.9).all()
    films[:3] = 0  # all of them are contradicted
    films[9:12] = 9  # of which the others are answered as labelled
    doubts = _doubts(of_label, of_other, groups=films)
    assert doubts[:3].tolist() == [0.5] * 3 and doubts[9] > 0.9


def test_a_model_that_never_errs_doubts_nothing():
    nothing = np.zeros(20)
    assert _doubts(nothing + 0.99, nothing, 2).max() < 0.5
    assert not len(_doubts(nothing[:0], nothing[:0], 2))
