"""Precision-recall curves are computed from counts.

They agree with those of scikit-learn, which needs all probabilities at once.
"""

from __future__ import annotations

import numpy as np
import pytest

from imgpipe.components.predictor.prediction import Prediction
from imgpipe.components.report.metrics import Row
from imgpipe.components.report.precision_recall import DRAWN, Curves


def counted(probabilities, labels, classes):
    """Return the summary of the curves of probabilities [n, classes] and labels [n]."""
    curves = Curves([f"c{i}" for i in range(classes)])
    rows = [
        Row(str(i), str(i), label, Prediction(0, 0.0, 0.0), probabilities=scores)
        for i, (scores, label) in enumerate(zip(probabilities, labels, strict=True))
    ]
    assert list(curves.counted(rows)) == rows
    return curves.summary()


def drawn(count, classes, seed=0):
    """Return random probabilities [count, classes] and labels [count] that often agree."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    logits = rng.normal(0, 1.5, (count, classes)) + 2.5 * np.eye(classes)[labels]
    exp = np.exp(logits)
    return exp / exp.sum(axis=1, keepdims=True), labels


def test_average_precision_is_that_of_scikit_learn():
    reference = pytest.importorskip("sklearn.metrics")
    probabilities, labels = drawn(3000, 5)
    found = counted(probabilities, labels, 5)
    for i, one in enumerate(found["classes"]):
        exact = reference.average_precision_score(labels == i, probabilities[:, i])
        assert one["average_precision"] == pytest.approx(exact, abs=0.003)
        assert one["count"] == (labels == i).sum()
        points = np.array(found["curves"][i]["points"])
        assert points[0, 0] == 0 and points[-1, 0] == 1
        assert (np.diff(points[:, 0]) >= 0).all() and len(points) <= 81


def test_average_precision_of_a_confident_model_is_that_of_its_exact_order():
    """Most probabilities are nearer to 0 or 1 than a millionth."""
    reference = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, 200)
    logits = rng.normal(0, 8, (200, 4)) + 14 * np.eye(4)[labels]
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = (exp / exp.sum(axis=1, keepdims=True)).astype(np.float32)
    for i, one in enumerate(counted(probabilities, labels, 4)["classes"]):
        exact = reference.average_precision_score(labels == i, probabilities[:, i])
        assert one["average_precision"] == pytest.approx(exact, abs=0.005)


def test_a_perfect_class_has_precision_one_and_a_class_without_images_none():
    probabilities = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]])
    found = counted(probabilities, [0, 1], 3)
    assert [one["average_precision"] for one in found["classes"]] == [1.0, 1.0, None]
    assert [curve["name"] for curve in found["curves"]] == ["c0", "c1"]
    assert found["curves"][0]["points"] == [[0.0, 1.0], [1.0, 1.0], [1.0, 0.5]]


def test_only_the_weakest_of_many_classes_have_curves():
    probabilities, labels = drawn(2000, 20)
    probabilities[labels == 7] = 1 / 20
    found = counted(probabilities, labels, 20)
    names = [curve["name"] for curve in found["curves"]]
    assert len(names) == DRAWN and "c7" in names
    known = sorted(one["average_precision"] for one in found["classes"])
    worst = {one["name"] for one in found["classes"] if one["average_precision"] <= known[7]}
    assert set(names) == worst


def test_without_all_probabilities_there_is_no_curve():
    assert counted([None], [0], 3) is None
    many = 1001  # more classes than those whose probabilities are all stored
    assert counted([np.full(many, 1 / many)], [0], many) is None
