"""Metrics are compared with values computed by hand or taken from the literature."""

import math

import pytest

from imgpipe.components.common import prediction
from imgpipe.components.common.prediction import StoredPrediction
from imgpipe.components.common.shares import wilson
from imgpipe.components.common.storage import records
from imgpipe.components.run_record.metrics import Table
from imgpipe.models.names import feature_names as names


def said(i, label, probabilities):
    """Return the prediction of image i as it is read back from its record."""
    values = {names.LABEL_INDEX: label, names.PROBABILITIES: list(probabilities)}
    values |= {names.PATH: f"{i}.jpg", names.IMAGE_HASH: f"{i:064x}"}
    return prediction.read(records.make(values))


def table(vocabulary, *rows):
    """Return a table of predictions; the rows are (label index, probabilities)."""
    return Table(vocabulary, [said(i, *row) for i, row in enumerate(rows)])


@pytest.fixture
def three():
    """Return predictions for five images of the classes a, b and c.

    Three are right; one b is taken for a, and one for c.
    """
    return table(
        ["a", "b", "c"],
        (0, (0.8, 0.1, 0.1)),
        (0, (0.6, 0.3, 0.1)),
        (1, (0.7, 0.2, 0.1)),
        (1, (0.1, 0.4, 0.5)),
        (2, (0.1, 0.1, 0.8)),
    )


# Intervals of (correct, count); these four are the worked examples of Newcombe 1998.
@pytest.mark.parametrize(
    ("correct", "count", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_agrees_with_newcombe(correct, count, low, high):
    assert wilson(correct, count) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("count", [0, 1, 4, 7, 10, 14, 1000])
def test_wilson_is_symmetric_and_reaches_its_bounds_where_all_or_none_are_correct(count):
    low, high = wilson(count, count)
    assert 0 <= low < high == 1.0
    assert wilson(0, count) == pytest.approx((0, 1 - low), abs=1e-12)


def test_confusion_is_label_by_prediction(three):
    assert three.confusion == [(0, 0, 2), (1, 0, 1), (1, 2, 1), (2, 2, 1)]


def test_recall_precision_and_f1_per_class_agree_with_hand_computation(three):
    per_class = three.summary()["per_class"]
    expected = {
        "a": {"count": 2, "recall": 1.0, "precision": 2 / 3, "f1": 0.8},
        "b": {"count": 2, "recall": 0.0, "precision": None, "f1": 0.0},
        "c": {"count": 1, "recall": 1.0, "precision": 1 / 2, "f1": 2 / 3},
    }
    for name, figures in expected.items():
        assert per_class[name] == pytest.approx(figures, nan_ok=True), name


def test_accuracy_and_log_loss_by_hand(three):
    summary = three.summary()
    assert (summary["count"], summary["correct"], summary["accuracy"]) == (5, 3, 0.6)
    expected = -sum(map(math.log, (0.8, 0.6, 0.2, 0.4, 0.8))) / 5
    assert summary["loss"] == pytest.approx(expected)


def test_ece_by_hand(three):
    # Confidences 0.8, 0.6, 0.7, 0.5, 0.8 lie in bins 12, 9, 10, 7, 12 of 15.
    gaps = {12: (0.8, 1.0, 2), 9: (0.6, 1.0, 1), 10: (0.7, 0.0, 1), 7: (0.5, 0.0, 1)}
    expected = sum(abs(conf - right) * n / 5 for conf, right, n in gaps.values())
    assert three.ece() == pytest.approx(expected)


def test_mistakes_come_most_confident_first(three):
    found = three.mistakes()
    assert [(row["path"], row["label"], row["predicted"]) for row in found] == [
        ("2.jpg", "b", "a"),
        ("3.jpg", "b", "c"),
    ]
    assert found[0]["probability"] == pytest.approx(0.7)
    assert found[0]["image_hash"] == f"{2:064x}"


def test_a_table_of_many_predictions_needs_little_memory():
    """An object for each of ten million images would take gigabytes."""
    import tracemalloc

    rows = (StoredPrediction(f"{i:0200d}", f"{i:064x}", i % 2, 1, 0.9, 0.1) for i in range(50_000))
    tracemalloc.start()
    try:
        found = Table(["a", "b"], rows)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50_000 * 100
    assert found.summary()["accuracy"] == 0.5
    assert [int(row["path"]) for row in found.mistakes()] == list(range(0, 96, 2))
