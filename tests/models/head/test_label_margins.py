"""Tests that the heads that doubt a label have not seen it, and of their memory."""

from __future__ import annotations

import tracemalloc

import numpy as np

from imgpipe.models.head.label_margins import label_margins


def test_an_image_is_scored_by_a_head_that_was_not_trained_on_it():
    """Out of fold, a head is no better than chance on noise, however many features there are."""
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(400, 500)), rng.integers(0, 2, 400)
    _, best = label_margins(features, labels, rng.integers(0, 5, 400), 2)
    assert 0.4 < np.mean(best == labels) < 0.6


def test_scores_of_many_classes_are_never_all_in_memory():
    """Scores of 1,500 classes for 9,000 rows would take 108 MB, and their copies 54 MB more."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(9_000, 8)).astype(np.float32)
    labels = np.arange(9_000) % 1_500
    tracemalloc.start()
    try:
        label_margins(features, labels, np.arange(9_000) % 5, 1_500)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 90e6
