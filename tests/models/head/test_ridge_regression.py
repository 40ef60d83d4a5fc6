"""Tests that ridge regression finds the minimum, and when a head is solved by it."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from imgpipe.models.features import rows as stored_rows
from imgpipe.models.features.bank import BankRows
from imgpipe.models.head import ridge_regression, solved_head
from imgpipe.models.head.logistic_regression import LogisticRegression, Scaling
from imgpipe.models.head.ridge_regression import RidgeRegression
from imgpipe.models.head.solved_head import FEW_CLASSES, HeadSolver
from imgpipe.models.settings.settings import Settings


def _rows(classes: int, each: int, width: int = 80, seed: int = 0) -> BankRows:
    """Return rows of overlapping classes, whose centres do not depend on the seed."""
    centres = np.random.default_rng(0).normal(size=(classes, width))
    rng = np.random.default_rng(seed + 1)
    labels = np.repeat(np.arange(classes), each)
    features = centres[labels] + rng.normal(size=(len(labels), width)) * 2.5
    hashes = np.array([f"{seed}-{i:06d}".encode() for i in range(len(labels))])
    return BankRows(features.astype(np.float16), labels, np.zeros_like(labels), hashes, hashes)


@pytest.mark.parametrize("each", [1, 9])  # fewer rows than features, and more
@pytest.mark.parametrize("balance", ["none", "class_weights"])
def test_finds_the_minimum_that_scikit_learn_finds(each, balance) -> None:
    rows = _rows(40, each)
    rows = rows.select((rows.labels != 3) | (np.arange(len(rows)) % 3 == 0))
    scaling = Scaling.fit(rows)
    found = RidgeRegression(rows, 40, scaling, balance=balance).minimise(0.5)
    counts = np.bincount(rows.labels, minlength=40)
    weights = (len(rows) / (np.count_nonzero(counts) * np.maximum(counts, 1)))[rows.labels]
    reference = Ridge(0.5).fit(
        scaling.scaled(rows.features),
        np.eye(40)[rows.labels],
        weights if balance == "class_weights" else None,
    )
    expected = reference.predict(scaling.scaled(rows.features))
    logits = rows.features.astype(np.float32) @ found.kernel + found.bias
    sharpness = ridge_regression._SHARPNESS * 40**0.2
    np.testing.assert_allclose(logits / sharpness, expected, atol=1e-4)


def test_rows_in_a_file_give_the_same_classifier(monkeypatch) -> None:
    rows = _rows(40, 9)
    scaling = Scaling.fit(rows)
    whole = RidgeRegression(rows, 40, scaling).minimise(1.0)
    monkeypatch.setattr(stored_rows, "IN_MEMORY", 0)
    monkeypatch.setattr(ridge_regression, "ROWS_AT_ONCE", 50)
    in_file = rows.select(np.ones(len(rows), np.bool_))
    assert stored_rows.mapped(in_file.features)
    blocks = RidgeRegression(in_file, 40, scaling).minimise(1.0)
    np.testing.assert_allclose(blocks.kernel, whole.kernel, atol=1e-4)


def test_smoothed_targets_make_the_answers_less_sure() -> None:
    rows = _rows(40, 3)
    plain, smoothed = (
        RidgeRegression(rows, 40, Scaling.fit(rows), smoothing).minimise(1.0)
        for smoothing in (0.0, 0.3)
    )
    np.testing.assert_allclose(smoothed.kernel, 0.7 * plain.kernel, atol=1e-4)


def test_the_folds_choose_between_both_methods() -> None:
    """Rows far out on their own side spoil least squares, and not logistic regression."""
    assert _method(_rows(10, 40), 10) == "ridge_regression"
    draw = np.random.default_rng(0)
    features = draw.normal(size=(400, 4))
    features[:, 0] = 4 * features[:, 0] ** 3
    labels = (features[:, 0] + 0.1 * draw.normal(size=400) > 0).astype(np.int64)
    far_out = replace(_rows(2, 200, width=4), features=features.astype(np.float16), labels=labels)
    assert _method(far_out, 2) == "logistic_regression"


def _method(rows: BankRows, classes: int) -> str:
    return HeadSolver(rows, classes, Settings()).solve().solution["method"]


@pytest.mark.parametrize("classes", [FEW_CLASSES, FEW_CLASSES + 1])
def test_logistic_regression_of_many_classes_is_not_tried(classes, monkeypatch) -> None:
    solved: list[float] = []
    minimise = LogisticRegression.minimise
    monkeypatch.setattr(
        LogisticRegression, "minimise", lambda *given: solved.append(0) or minimise(*given)
    )
    HeadSolver(_rows(classes, 4), classes, Settings()).judge()
    assert bool(solved) == (classes == FEW_CLASSES)


@pytest.mark.parametrize(
    ("images", "method"), [(4, "logistic_regression"), (2, "ridge_regression")]
)
def test_the_fewer_of_rows_and_features_decide_on_the_closed_form(
    images, method, monkeypatch
) -> None:
    rows = _rows(40, images, width=90)
    monkeypatch.setattr(solved_head, "WIDEST", 89)
    solution = HeadSolver(rows, 40, Settings()).solve(learning_curve=False).solution
    assert solution["method"] == method


def test_the_head_of_many_classes_is_as_good_on_new_rows_as_on_folds() -> None:
    rows = _rows(60, 8)
    head = HeadSolver(rows, 60, Settings()).solve()
    new = _rows(60, 8, seed=5)
    right = head.linear.log_probabilities(new.features).argmax(axis=1) == new.labels
    error = head.solution["standard_error"]
    assert right.mean() > head.solution["accuracy"] - 3 * error > 0.3
    curve = [point["accuracy"] for point in head.solution["learning_curve"]]
    assert curve == sorted(curve)


def test_more_rows_than_the_sample_of_the_penalty_are_all_learned_from(monkeypatch) -> None:
    monkeypatch.setattr(solved_head, "_CHOOSING", 100)
    monkeypatch.setattr(solved_head, "_CHOOSING_A_CLASS", 3)
    rows = _rows(60, 8)
    new = _rows(60, 8, seed=5)
    sampled = HeadSolver(rows, 60, Settings())
    head = sampled.solve(learning_curve=False)
    assert head.solution["images"] == 180
    right = head.linear.log_probabilities(new.features).argmax(axis=1) == new.labels
    assert right.mean() > head.solution["accuracy"]
