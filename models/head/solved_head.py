"""Solves the linear head on stored features, without epochs or a learning rate.

The loss of a linear head is convex, so there is exactly one best head for a given penalty. It is
found in a second or two, and every run finds the same one. Cross-validation over the training
images chooses the penalty, and also gives the learning curve, which shows whether more images would
help. Images of one group are always in one fold, so that no head is evaluated on a near-duplicate
of an image that it was trained on.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Annotated, Any, Final, NamedTuple

import numpy as np
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.models.arrays import Flags, Floats
from imgpipe.models.features.bank import BankRows, ChosenPenalty
from imgpipe.models.features.folds import FOLDS
from imgpipe.models.head.answers import Answers, Scores, standard_error
from imgpipe.models.head.logistic_regression import Linear, LogisticRegression, Scaling
from imgpipe.models.process import one_blas_thread
from imgpipe.models.settings import ModelSettings

#: Penalties that are tried, from the strongest to the weakest. Each search begins with the solution
#: for the penalty before, which is near. Without such a start, weaker ones are not solved exactly.
PENALTIES: Final = tuple(float(10**power) for power in np.arange(1.0, -3.1, -1))
#: Shares of a fold's training images for which the learning curve has a point.
SHARES: Final = (1 / 8, 1 / 4, 1 / 2)

_CHOOSING: Final = 2000  # images with which the penalty is chosen; more images barely change it
_CHOOSING_A_CLASS: Final = 10  # … unless these are fewer than this times the number of classes
_USUAL_PENALTY: Final = 0.25  # used when there are too few images to choose a penalty
_FLAT: Final = 1e-7  # share of the largest variance below which an axis is left out
_ROUGH: Final = 1e-5  # relative decrease of the loss below which a fold's head counts as solved


class CurvePoint(TypedDict):
    """A point of the learning curve."""

    images: Annotated[int, "Training images of a fold."]
    accuracy: Annotated[float, "Accuracy over the folds."]


class FoldResult(TypedDict):
    """The penalty that folds chose. With too few images for folds, all but it is null."""

    l2: Annotated[float, "Penalty of the weights."]
    folds: Annotated[int | None, "Number of folds."]
    images: Annotated[int | None, "Images in all folds."]
    accuracy: Annotated[float | None, "Accuracy over the folds."]
    standard_error: Annotated[float | None, "Standard error of this accuracy."]
    learning_curve: Annotated[
        list[CurvePoint] | None,
        "Accuracy with fewer training images; null if it was not computed.",
    ]
    gain_error: Annotated[float | None, "Standard error of the difference of its last two points."]


class Solution(FoldResult):
    """How a solved head was found."""

    iterations: Annotated[int, "Iterations of the solver."]


class Judgement(NamedTuple):
    """How good heads on some rows are.

    Attributes:
        scores: Scores of the heads of the folds with the best penalty.
        penalty: This penalty.
    """

    scores: Scores
    penalty: ChosenPenalty


class SolvedHead(NamedTuple):
    """A solved head.

    Attributes:
        linear: Weights and biases, for features as they are stored.
        solution: How the head was found.
    """

    linear: Linear
    solution: Solution


def solve(
    rows: BankRows,
    classes: int,
    settings: ModelSettings,
    learning_curve: bool = True,
) -> SolvedHead:
    """Find the best linear head for the rows of a feature bank.

    Args:
        rows: Training rows of view 0 and of any augmented views. If a penalty was chosen for the
            same rows before, it is in `rows.penalties` and is not chosen again.
        classes: Number of classes.
        settings: Settings of the training: `label_smoothing` and `balance` are used.
        learning_curve: Whether to compute the learning curve, which takes as long as the choice of
            the penalty. The head does not depend on it.
    """
    sample = _sample(rows, classes)
    rotation, turned = Rotation.fit(sample)
    # The loss is a sum over rows, so a penalty that suits some of the rows suits all of them.
    digest = _digest(sample, classes, settings) if rows.penalties else ""
    known = next((chosen for chosen in rows.penalties if chosen["rows"] == digest), None)
    result = _choose(turned, classes, settings, learning_curve, known)
    penalty = result["l2"]
    problem = _problem(turned, classes, settings)
    linear = rotation.for_stored_features(problem.minimise(penalty))
    if len(sample) < len(rows):
        problem = LogisticRegression(
            rows,
            classes,
            rotation.scaling,
            settings.label_smoothing,
            settings.balance,
            linear,
        )
        linear = problem.minimise(penalty)
    return SolvedHead(linear, {**result, "iterations": problem.iterations})


def judge(rows: BankRows, classes: int, settings: ModelSettings) -> Judgement | None:
    """Evaluate training rows by cross-validation; None when there are too few images.

    The penalty is that of the lowest loss. Rows of other views of the same images are evaluated on
    the same images in the same order.
    """
    sample = _sample(rows, classes)
    _, turned = Rotation.fit(sample)
    folds = _folds(turned)
    if not folds:
        return None
    penalty, scores = _best(folds, classes, settings)
    wrong = np.flatnonzero(~scores.right).tolist()
    return Judgement(
        scores, {"rows": _digest(sample, classes, settings), "l2": penalty, "wrong": wrong}
    )


def _digest(rows: BankRows, classes: int, settings: ModelSettings) -> str:
    """Return a hash (hex) of all that determines the choice of a penalty for some rows."""
    sizes = rows.sizes or (rows.features.shape[1],)
    digest = hashlib.sha256()
    digest.update(repr((classes, settings.label_smoothing, settings.balance, sizes)).encode())
    for column in (rows.features, rows.labels, rows.views, rows.hashes, rows.groups):
        digest.update(np.ascontiguousarray(column).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def out_of_fold(
    rows: BankRows, classes: int, settings: ModelSettings, penalty: float, count: int = FOLDS
) -> list[tuple[Answers, int]]:
    """Return the answers of the head of each fold, and the number of images that it has learned.

    There are none where `_folds` returns none. All heads have the same penalty.
    """
    folds = _folds(Rotation.fit(rows)[1], count)
    problems = [_problem(fold.train, classes, settings) for fold in folds]
    answers = _all_answers(penalty, folds, problems)
    return [(one, int(fold.train.clean.sum())) for one, fold in zip(answers, folds, strict=True)]


def _problem(rows: BankRows, classes: int, settings: ModelSettings) -> LogisticRegression:
    smoothing = settings.label_smoothing
    balance = settings.balance
    return LogisticRegression(rows, classes, smoothing=smoothing, balance=balance)


class Rotation(NamedTuple):
    """Scaled features, turned to their principal axes.

    All heads of some rows are solved in these coordinates. There are no more of them than rows, and
    nothing is lost: the weights of a head with a penalty are sums of rows.
    """

    scaling: Scaling
    axes: Floats  # directions of the coordinates, orthonormal columns, float32 [D, r]

    @classmethod
    def fit(cls, rows: BankRows) -> tuple[Rotation, BankRows]:
        """Return the principal axes of all rows, and the rows with coordinates as features."""
        from scipy import linalg

        scaling = Scaling.fit(rows.features, rows.sizes or (rows.features.shape[1],))
        values = scaling.scaled(rows.features)
        few = len(values) < values.shape[1]  # then the products of the rows give the same axes
        with one_blas_thread():
            products = values @ values.T if few else values.T @ values
            squares, vectors = linalg.eigh(products, overwrite_a=True, check_finite=False)
            some = squares > _FLAT * squares[-1]
            lengths = np.sqrt(squares[some])
            vectors = vectors[:, some]
            axes = values.T @ (vectors / lengths) if few else vectors
            turned = vectors * lengths if few else values @ vectors
        rotation = cls(scaling, np.ascontiguousarray(axes, np.float32))
        return rotation, replace(rows, features=np.ascontiguousarray(turned, np.float32), sizes=())

    def for_stored_features(self, linear: Linear) -> Linear:
        """Convert a classifier of coordinates to one of stored features."""
        kernel = self.axes.astype(np.float64) @ linear.kernel
        return self.scaling.unscaled(kernel, linear.bias)


def _sample(rows: BankRows, classes: int) -> BankRows:
    """Return the rows with which the penalty is chosen."""
    views = len(rows) // max(1, int(rows.clean.sum()))  # of each image
    count = max(_CHOOSING // max(1, views // 2), _CHOOSING_A_CLASS * classes)
    return _first_groups(rows, count, 2 * FOLDS)


def _first_groups(rows: BankRows, count: int, least: int = 1) -> BankRows:
    """Return all views of `count` images: whole groups, where these are small.

    Of a large group, such as a long film, only so many images are returned that there is room for
    `least` groups.
    """
    images, first = np.unique(rows.hashes, return_index=True)
    if len(images) <= count:
        return rows
    group_of = rows.groups[first]
    groups, sizes = np.unique(group_of, return_counts=True)
    # By a hash, so that the choice depends on the images alone. The prefix makes the order another
    # one than that of `folds.assign`, which hashes the same names.
    salted = (hashlib.sha256(b"some:" + name).digest() for name in groups.tolist())
    numbers = np.fromiter((int.from_bytes(digest[:8]) for digest in salted), np.uint64, len(groups))
    order = np.argsort(numbers, kind="stable")
    wanted = np.minimum(sizes[order], max(1, count // least))
    taken = np.empty_like(wanted)  # images of each group, in the order of the groups
    taken[order] = np.clip(count - (np.cumsum(wanted) - wanted), 0, wanted)
    by_group = np.argsort(group_of, kind="stable")
    rank = np.empty(len(images), np.int64)  # of each image in its group
    rank[by_group] = np.arange(len(images)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    kept = images[rank < taken[np.searchsorted(groups, group_of)]]
    return rows.select(np.isin(rows.hashes, kept))


class _Fold(NamedTuple):
    """The rows of one fold: those to train on, and those of view 0 to evaluate on."""

    train: BankRows
    held: BankRows
    known: Flags  # whether `train` has images of the class of each row of `held`

    def answers(self, linear: Linear) -> Answers:
        """Return the answers of a head for the rows to evaluate on."""
        parts = [block for _, block in linear.in_blocks(self.held.features)]
        held = self.held
        return Answers(np.concatenate(parts), held.labels, held.groups, self.known, held.hashes)


def _folds(rows: BankRows, count: int = FOLDS) -> list[_Fold]:
    """Return the folds; none where there are too few groups, or each class is in one fold."""
    if len(np.unique(rows.groups)) < 2 * count:
        return []
    numbers = rows.folds(count)
    folds = []
    for fold in range(count):
        train = rows.select(numbers != fold)
        held = rows.select((numbers == fold) & rows.clean)
        folds.append(_Fold(train, held, np.isin(held.labels, train.labels)))
    return folds if any(fold.known.any() for fold in folds) else []


def _choose(
    rows: BankRows,
    classes: int,
    settings: ModelSettings,
    learning_curve: bool,
    known: ChosenPenalty | None,
) -> FoldResult:
    """Return the penalty, which may be known, and the results over the folds of heads with it."""
    result: FoldResult = {
        "l2": _USUAL_PENALTY,
        "folds": None,
        "images": None,
        "accuracy": None,
        "standard_error": None,
        "learning_curve": None,
        "gain_error": None,
    }
    folds = _folds(rows)
    if not folds:
        return result
    groups = np.concatenate([fold.held.groups for fold in folds])
    if known is None:
        penalty, scores = _best(folds, classes, settings)
        right = scores.right
    else:
        penalty = known["l2"]
        right = np.ones(len(groups), np.bool_)
        right[known["wrong"]] = False
    result |= {
        "l2": penalty,
        "folds": FOLDS,
        "images": len(right),
        "accuracy": float(right.mean()),
        "standard_error": standard_error(right, groups),
    }
    if learning_curve:
        curve = [_with_fewer(folds, share, penalty, classes, settings) for share in SHARES]
        curve.append((_images(fold.train for fold in folds), right))
        result["learning_curve"] = [
            {"images": count, "accuracy": float(flags.mean())} for count, flags in curve
        ]
        # All points are measured on the same images, so the error is that of paired differences.
        gains = right.astype(np.float64) - curve[-2][1]
        result["gain_error"] = standard_error(gains, groups)
    return result


def _best(folds: list[_Fold], classes: int, settings: ModelSettings) -> tuple[float, Scores]:
    """Return the penalty with the lowest loss, and the scores of the folds with it.

    Weaker penalties are tried until one is worse. The loss then rises further: on 24 sets of
    features, from 98 images to 3,329, no weaker one was better again.
    """
    problems = [_problem(fold.train, classes, settings) for fold in folds]

    def scores_with(penalty: float) -> Scores:
        # A strong penalty makes a head less sure, which the temperature undoes.
        return Answers.joined(_all_answers(penalty, folds, problems)).scores()

    best = PENALTIES[0]
    best_scores = scores_with(best)
    for penalty in PENALTIES[1:]:
        scores = scores_with(penalty)
        if float(scores.losses.mean()) >= float(best_scores.losses.mean()):
            break
        best = penalty
        best_scores = scores
    return best, best_scores


def _all_answers(
    penalty: float, folds: Sequence[_Fold], problems: Sequence[LogisticRegression]
) -> list[Answers]:
    """Return the answers of the heads of all folds with this penalty."""
    # Half of the time is spent in products of matrices, during which other threads may run Python.
    # The limit of one BLAS thread is set here too, because the folds enter and leave it together.
    with one_blas_thread(), ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        return list(threads.map(functools.partial(_answers, penalty), folds, problems))


def _answers(penalty: float, fold: _Fold, problem: LogisticRegression) -> Answers:
    """Return the answers of a head of a fold with this penalty."""
    return fold.answers(problem.minimise(penalty, _ROUGH))


def _with_fewer(
    folds: list[_Fold], share: float, penalty: float, classes: int, settings: ModelSettings
) -> tuple[int, Flags]:
    """Return the mean number of training images, and which answers of their heads are right."""
    counts = [max(1, round(share * len(np.unique(fold.train.hashes)))) for fold in folds]
    parts = zip(folds, counts, strict=True)
    smaller = [_first_groups(fold.train, count) for fold, count in parts]
    problems = [_problem(rows, classes, settings) for rows in smaller]
    return _images(smaller), Answers.joined(_all_answers(penalty, folds, problems)).right


def _images(parts: Any) -> int:
    """Return the mean number of images in a part."""
    return round(float(np.mean([len(np.unique(rows.hashes)) for rows in parts])))
