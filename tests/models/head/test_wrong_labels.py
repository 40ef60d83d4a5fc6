"""Labels are in doubt where a model contradicts them more often than its probabilities explain."""

from __future__ import annotations

import numpy as np
import pytest

from imgpipe.models.head.calibration import wrong_label_probabilities

CLASSES = 5


def answers(sureness, share, count=2000):
    """Return probabilities of labels and of other answers, and which labels are wrong.

    The labels are drawn with the probabilities of a model, and then a share of them is changed.
    """
    rng = np.random.default_rng(0)
    logits = sureness * rng.normal(size=(count, CLASSES))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (shares.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
    wrong = rng.random(count) < share
    labels = np.where(wrong, (labels + rng.integers(1, CLASSES, count)) % CLASSES, labels)
    top = shares.argmax(axis=1)
    of_label = shares[np.arange(count), labels]
    return of_label, np.where(top == labels, 0, shares.max(axis=1)), wrong


@pytest.mark.parametrize("sureness", [6, 10, 30])
def test_mistakes_that_the_model_expects_are_no_doubtful_labels(sureness):
    of_label, of_other, _ = answers(sureness, 0)
    assert np.mean(of_other > 0) > 0.01, "there are mistakes"
    assert (wrong_label_probabilities(of_label, of_other, CLASSES) > 0.5).sum() <= 2


@pytest.mark.parametrize("sureness", [6, 10, 30])
@pytest.mark.parametrize("share", [0.01, 0.05])
def test_more_than_half_of_the_doubtful_labels_are_wrong(sureness, share):
    of_label, of_other, wrong = answers(sureness, share)
    doubtful = wrong_label_probabilities(of_label, of_other, CLASSES) > 0.5
    assert doubtful.sum() > 0.2 * wrong.sum() and wrong[doubtful].mean() > 0.5


def test_a_model_that_never_errs_doubts_nothing():
    nothing = np.zeros(20)
    assert wrong_label_probabilities(nothing + 0.99, nothing, 2).max() < 0.5
    assert not len(wrong_label_probabilities(nothing[:0], nothing[:0], 2))
