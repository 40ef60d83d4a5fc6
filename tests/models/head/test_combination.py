"""Tests of the combined answer of a head and of a network, and of the choice of its weight."""

from __future__ import annotations

import numpy as np
import pytest

from imgpipe.models.head.answers import Answers
from imgpipe.models.head.calibration import fit_temperature, softmax
from imgpipe.models.head.combination import ALONE, WEIGHTS, best_combination

_IMAGES = 400
_CLASSES = 3
_LABELS = np.arange(_IMAGES) % _CLASSES
_RIGHT = np.eye(_CLASSES)[_LABELS]


def _answers(margin: float, noise: float, seed: int, known: np.ndarray | None = None) -> Answers:
    """Return answers whose logits are right by a margin, with independent noise."""
    random = np.random.default_rng(seed)
    logits = margin * _RIGHT + random.normal(scale=noise, size=_RIGHT.shape)
    return Answers(logits.astype(np.float32), _LABELS, known=known)


def test_two_that_err_independently_are_combined_by_half() -> None:
    head = _answers(2, 1.5, 0)
    network = _answers(2, 1.5, 1)
    combination = best_combination(head, network)
    assert combination.weight == 0.5
    both = combination.answers(head, network)
    losses = [float(one.scores().losses.mean()) for one in (both, head, network)]
    assert losses[0] < 0.9 * min(losses[1:])
    assert both.accuracy > max(head.accuracy, network.accuracy)


def test_the_combined_answer_is_the_geometric_mean_of_calibrated_probabilities() -> None:
    head = _answers(6, 4, 0)  # too sure of itself
    network = _answers(2, 1.5, 1)
    combination = best_combination(head, network)
    assert combination.weight < 1
    calibrated = [softmax(a.logits / fit_temperature(a.logits, a.labels)) for a in (head, network)]
    weight = combination.weight
    mean = calibrated[0] ** (1 - weight) * calibrated[1] ** weight
    mean /= mean.sum(axis=1, keepdims=True)
    found = softmax(combination.answers(head, network).logits)
    np.testing.assert_allclose(found, mean, atol=1e-5)


@pytest.mark.parametrize("noise", [0.1, 1.5])
def test_a_head_that_knows_nothing_leaves_the_network_alone(noise: float) -> None:
    network = _answers(2, noise, 1)
    nothing = Answers(np.full((_IMAGES, _CLASSES), 1e-3, np.float32), _LABELS)
    combination = best_combination(nothing, network)
    assert combination == ALONE
    np.testing.assert_array_equal(combination.answers(nothing, network).logits, network.logits)


def test_a_head_that_repeats_the_network_with_more_noise_leaves_it_alone() -> None:
    network = _answers(2, 1.2, 0)
    noise = np.random.default_rng(1).normal(scale=2.5, size=_RIGHT.shape)
    repeated = Answers((network.logits + noise).astype(np.float32), _LABELS)
    assert best_combination(repeated, network) == ALONE
    assert best_combination(network, repeated).weight == min(WEIGHTS), "the head most of all"


def test_images_of_a_class_that_could_not_be_learned_choose_no_weight() -> None:
    known = _LABELS != 2
    head = _answers(2, 1.5, 0, known)
    network = _answers(2, 1.5, 1, known)
    wrong = network.logits.copy()
    wrong[~known] *= -50
    other = Answers(wrong, _LABELS, known=known)
    assert best_combination(head, network) == best_combination(head, other)
