"""Metrics are compared with values computed by hand or taken from the literature."""

import math

import numpy as np
import pytest

from imgpipe.components.run_record.metrics import judged_answers, metrics
from imgpipe.models.head.certainty import wilson
from tests.answer_tables import answer, table


def said(i, label, probabilities):
    """Return the answer to image i with these probabilities of the classes."""
    best = int(np.argmax(probabilities))
    return answer(i, label, best, probabilities[best], probabilities[label])


@pytest.fixture
def three():
    """Return predictions for five images of the classes a, b and c.

    Three are right; one b is taken for a, and one for c.
    """
    return table(
        ["a", "b", "c"],
        said(0, 0, (0.8, 0.1, 0.1)),
        said(1, 0, (0.6, 0.3, 0.1)),
        said(2, 1, (0.7, 0.2, 0.1)),
        said(3, 1, (0.1, 0.4, 0.5)),
        said(4, 2, (0.1, 0.1, 0.8)),
    )


def test_confusion_is_label_by_prediction(three):
    assert three.confusion() == [(0, 0, 2), (1, 0, 1), (1, 2, 1), (2, 2, 1)]


def test_recall_precision_and_f1_per_class_agree_with_hand_computation(three):
    per_class = metrics(three)["per_class"]
    expected = {
        "a": {"count": 2, "recall": 1.0, "precision": 2 / 3, "f1": 0.8},
        "b": {"count": 2, "recall": 0.0, "precision": None, "f1": 0.0},
        "c": {"count": 1, "recall": 1.0, "precision": 1 / 2, "f1": 2 / 3},
    }
    for name, figures in expected.items():
        found = {key: per_class[name][key] for key in figures}
        assert found == pytest.approx(figures, nan_ok=True), name
    assert per_class["a"]["ci95"] == list(wilson(2, 2))


def test_accuracy_and_log_loss_by_hand(three):
    summary = metrics(three)
    assert (summary["count"], summary["correct"], summary["accuracy"]) == (5, 3, 0.6)
    expected = -sum(map(math.log, (0.8, 0.6, 0.2, 0.4, 0.8))) / 5
    assert summary["loss"] == pytest.approx(expected)


def test_ece_by_hand(three):
    # Confidences 0.8, 0.6, 0.7, 0.5, 0.8 lie in bins 12, 9, 10, 7, 12 of 15.
    gaps = {12: (0.8, 1.0, 2), 9: (0.6, 1.0, 1), 10: (0.7, 0.0, 1), 7: (0.5, 0.0, 1)}
    expected = sum(abs(conf - right) * n / 5 for conf, right, n in gaps.values())
    assert metrics(three)["ece"] == pytest.approx(expected)


def test_mistakes_come_most_confident_first(three):
    found = judged_answers("folds", 0.9, three)["mistakes"]
    assert [(row["path"], row["label"], row["predicted"]) for row in found] == [
        ("2.jpg", "b", "a"),
        ("3.jpg", "b", "c"),
    ]
    assert found[0]["probability"] == pytest.approx(0.7)
    assert found[0]["image_hash"] == f"{2:064x}"


def test_a_table_of_many_answers_needs_little_memory():
    import tracemalloc

    rows = (answer(i, i % 2, 1, 0.9, 0.1) for i in range(50_000))
    tracemalloc.start()
    try:
        found = table(["a", "b"], *rows)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50_000 * 1_200
    assert metrics(found)["accuracy"] == 0.5
    assert len(judged_answers("folds", 0.9, found)["mistakes"]) == 48
