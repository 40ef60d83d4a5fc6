"""Tests that logistic regression finds scikit-learn's minimum, at any scale and size."""

import tracemalloc

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression as Reference

from imgpipe.models.errors import DataRefused
from imgpipe.models.features import rows as stored_rows
from imgpipe.models.features.bank import BankRows
from imgpipe.models.head import logistic_regression
from imgpipe.models.head.logistic_regression import LogisticRegression, Scaling
from tests.models.banks import rows_of


def _rows(count: int = 300, classes: int = 3) -> BankRows:
    """Return rows of overlapping classes, whose 12 features differ widely in scale."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, classes, count)
    features = draw.normal(size=(count, 12)) + 0.7 * np.eye(classes, 12)[labels]
    features = features * np.geomspace(0.01, 100, 12) + 5
    features[:, 4] = 2.5
    return rows_of(features, labels)


def _scale(features: np.ndarray) -> np.ndarray:
    """Return the scale [features] by which the features are divided.

    It is the weighted geometric mean of a feature's standard deviation and the geometric mean of
    all features' standard deviations, which counts as 30 rows, times the square root of their
    number; but not less than the median of all features.
    """
    found = features.std(axis=0)
    varies = found > 1e-6
    common = np.exp(np.log(found[varies]).mean())
    share = len(features) / (len(features) + 30)
    weighted = np.where(varies, found, 1.0) ** share * common ** (1 - share)
    scale = weighted * np.sqrt(varies.sum())
    return np.where(varies, np.maximum(scale, np.median(scale[varies])), 1.0)


@pytest.mark.filterwarnings("ignore:scipy.optimize")  # scikit-learn passes a deprecated option
@pytest.mark.filterwarnings("ignore:Unknown solver options")  # which a newer SciPy does not know
@pytest.mark.parametrize("balance", ["none", "class_weights"])
@pytest.mark.parametrize("penalty", [0.1, 10.0])
@pytest.mark.parametrize("classes", [2, 3])
def test_finds_the_minimum_that_scikit_learn_finds(classes, penalty, balance) -> None:
    rows = _rows(classes=classes)
    if balance == "class_weights":
        rows = rows.select((rows.labels != 0) | (np.arange(len(rows)) % 4 == 0))
    problem = LogisticRegression(rows, classes, Scaling.fit(rows), balance=balance, tolerance=1e-10)
    found = problem.minimise(penalty)
    features = rows.features.astype(np.float64)
    scale = _scale(features)
    weight = "balanced" if balance == "class_weights" else None
    # scikit-learn's model of two classes has one unit, whose penalty counts once instead of twice.
    strength = penalty / 2 if classes == 2 else penalty
    reference = Reference(C=1 / strength, class_weight=weight, tol=1e-10, max_iter=5000)
    reference.fit((features - features.mean(axis=0)) / scale, rows.labels)
    expected = reference.predict_log_proba((features - features.mean(axis=0)) / scale)
    np.testing.assert_allclose(found.log_probabilities(rows.features), expected, atol=1e-2)


@pytest.fixture
def stored(monkeypatch) -> BankRows:
    monkeypatch.setattr(stored_rows, "IN_MEMORY", 0)
    made = _rows()
    return made.select(np.ones(len(made), np.bool_))


def test_reading_rows_from_a_file_gives_the_same_classifier(stored, monkeypatch) -> None:
    scaling = Scaling.fit(stored)
    whole = LogisticRegression(_rows(), 3, scaling, 0.1, tolerance=1e-10).minimise(1.0)
    monkeypatch.setattr(logistic_regression, "ROWS_AT_ONCE", 64)
    assert stored_rows.mapped(stored.features)
    blocks = LogisticRegression(stored, 3, scaling, 0.1, tolerance=1e-10).minimise(1.0)
    features = _rows().features
    np.testing.assert_allclose(
        blocks.log_probabilities(features), whole.log_probabilities(features), atol=1e-2
    )


def test_thousands_of_classes_take_bounded_memory() -> None:
    """A table of all rows and classes would take 100 MB, and five are needed at a time."""
    rows = _rows(count=5000, classes=12)
    tracemalloc.start()
    try:
        found = LogisticRegression(rows, 5000, Scaling.fit(rows), tolerance=1.0).minimise(1e9)
        blocks = [part for part, _ in found.in_blocks(rows.features)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 250e6
    assert blocks[0].start == 0 and blocks[-1].stop == 5000


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_features_of_a_file_that_are_not_finite_are_refused(stored, value) -> None:
    stored.features[7] = value
    with pytest.raises(DataRefused, match="not finite"):
        Scaling.fit(stored)


def test_with_few_rows_faint_features_are_not_scaled_up_to_the_others() -> None:
    """Two features separate the classes of 12 rows. The 398 others are faint noise."""
    draw = np.random.default_rng(2)
    labels = np.arange(212) % 2
    features = 0.1 * draw.normal(size=(212, 400))
    features[:, :2] = draw.normal(size=(212, 2)) + 4 * labels[:, None]
    rows = rows_of(features, labels)
    few = rows.select(np.arange(212) < 12)
    found = LogisticRegression(few, 2, Scaling.fit(few)).minimise(0.25)
    others = rows.select(np.arange(212) >= 12)
    predicted = found.log_probabilities(np.asarray(others.features)).argmax(axis=1)
    assert (predicted == others.labels).mean() > 0.95
