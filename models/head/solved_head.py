"""Solves the linear head on stored features, without epochs or a learning rate.

The loss of a linear head is convex, so there is exactly one best head for a given method and
penalty. It is found in a second or two, and every run finds the same one. Cross-validation over the
training images chooses method and penalty: logistic regression, unless there are many classes, or
ridge regression. It also gives the learning curve, which shows whether more images would help.
Images of one group are always in one fold, so that no head is evaluated on a near-duplicate of an
image that it was trained on. The head of a fold, and the scaling of its features, are those of the
images that it learns from.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Final, NamedTuple, TypeVar

import numpy as np
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.models.arrays import Integers
from imgpipe.models.features.bank import BankRows, HeadMethod, Regression
from imgpipe.models.features.folds import FOLDS
from imgpipe.models.head.answers import Answers, Scores
from imgpipe.models.head.certainty import standard_error
from imgpipe.models.head.learned import Learned
from imgpipe.models.head.logistic_regression import Linear, LogisticRegression, Scaling
from imgpipe.models.head.ridge_regression import WIDEST, RidgeRegression, Rotation
from imgpipe.models.machine.process import one_blas_thread
from imgpipe.models.machine.system import processors
from imgpipe.models.settings.settings import Settings

#: Penalties that are tried with each method, from the strongest to the weakest: decades, and half
#: decades. Each search of a logistic regression begins with the solution for the penalty before,
#: which is near. Without such a start, weaker ones are not solved exactly.
PENALTIES: Final[Mapping[HeadMethod, tuple[float, ...]]] = {
    "logistic_regression": tuple(float(10**power) for power in np.arange(1.0, -3.1, -1)),
    "ridge_regression": tuple(float(10**power) for power in np.arange(2.0, -1.6, -0.5)),
}
#: With more classes, logistic regression is not tried, whose time grows with them; see
#: docs/benchmarks.md, "Many classes".
FEW_CLASSES: Final = 30
#: Shares of a fold's training images for which the learning curve has a point.
SHARES: Final = (1 / 8, 1 / 4, 1 / 2, 1.0)

_CHOOSING: Final = 2000  # images with which the penalty is chosen; more images barely change it
_CHOOSING_A_CLASS: Final = 10  # … unless these are fewer than this times the number of classes
_MOST_CHOOSING: Final = 10_000  # … but no more, because of the time and the memory
#: Rows that are turned to their principal axes for a final logistic regression, at most. There, a
#: step of the solver costs a fifth of one on stored features, which are converted to float32 in
#: each step. The time to find the axes grows with the cube of the rows, and the memory with their
#: square.
_MOST_TURNED: Final = 4000
#: Rows of all folds that are solved at the same time, at most, but those of one fold: with 1,000
#: classes, a fold takes a gigabyte.
_MOST_AT_ONCE: Final = 10_000
#: What is solved where there are too few images to choose.
_USUAL: Final = Regression("logistic_regression", 0.25)
#: Relative decrease of the loss below which the head of a fold, and another one, counts as solved.
_ROUGH: Final = 1e-5
_EXACT: Final = 1e-8

_Problem = LogisticRegression | RidgeRegression
_T = TypeVar("_T")


class CurvePoint(TypedDict):
    """A point of the learning curve."""

    images: Annotated[int, "Training images of a fold."]
    accuracy: Annotated[float, "Accuracy over the folds."]


class Solution(TypedDict):
    """How a head was found. With too few images for folds, all but method and penalty is null."""

    method: Annotated[HeadMethod, "What was solved, as the folds chose it."]
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


class Judgement(NamedTuple):
    """How good heads on some rows are."""

    scores: Scores  # of the heads of the folds with the best method and penalty
    regression: Regression  # this method and this penalty


class SolvedHead(NamedTuple):
    """A solved head."""

    linear: Linear  # weights and biases, for features as they are stored
    solution: Solution  # how the head was found


class HeadSolver:
    """Solves heads on some rows. What several of its methods need is computed once.

    Args:
        rows: Training rows of view 0 and of any augmented views. Method and penalty are those of
            `rows.regression`, if it is not None; else the folds choose them.
        classes: Number of classes.
        settings: Settings of the training: `label_smoothing` and `balance` are used.
    """

    def __init__(self, rows: BankRows, classes: int, settings: Settings) -> None:
        self.rows = rows
        self.classes = classes
        self.settings = settings
        # The loss is a sum over rows, so a penalty that suits some of the rows suits all of them.
        self._sample = _sample(rows, classes)
        #: What the folds of the sample answer by method and penalty, and the share that is learned.
        self._answers: dict[tuple[Regression, float], list[Answers]] = {}

    def judge(self) -> Judgement | None:
        """Evaluate the rows by cross-validation; None when there are too few images.

        Method and penalty are those of the lowest loss. Rows of other views of the same images are
        evaluated on the same images in the same order.
        """
        if not len(self._folds):
            return None
        answers = Answers.joined(self._answers_with(self._regression))
        return Judgement(answers.scores(), self._regression)

    def solve(self, learning_curve: bool = True) -> SolvedHead:
        """Find the best linear head.

        Args:
            learning_curve: Whether to compute the learning curve, which takes as long as the choice
                of the penalty. The head does not depend on it.
        """
        solution = self._solution(learning_curve)
        method = solution["method"]
        if method == "logistic_regression" and len(self.rows) <= _MOST_TURNED:
            rotation, turned = Rotation.fit(self.rows)
            problem = self._problem(method, turned)
            linear = rotation.for_stored_features(problem.minimise(solution["l2"]))
        else:
            problem = self._problem(method, self.rows, Scaling.fit(self.rows))
            linear = problem.minimise(solution["l2"])
        return SolvedHead(linear, solution)

    def out_of_fold(self, regression: Regression, count: int = FOLDS) -> list[Answers]:
        """Return the answers of the head of each fold.

        There are none where `_split` returns no folds. All heads have the same penalty.
        """
        if count == FOLDS and len(self._sample) == len(self.rows):
            return self._answers_with(regression)
        numbers = _split(self.rows, count)
        return _of_folds(self.rows, numbers, lambda fold: self._answered(fold, regression))

    @functools.cached_property
    def _folds(self) -> Integers:
        """The fold of each row of the sample; see `_split`."""
        return _split(self._sample)

    def _problem(
        self,
        method: HeadMethod,
        rows: BankRows,
        scaling: Scaling | None = None,
        tolerance: float = _EXACT,
    ) -> _Problem:
        smoothing = self.settings.course.label_smoothing
        balance = self.settings.course.balance
        if method == "ridge_regression":
            return RidgeRegression(rows, self.classes, scaling, smoothing, balance)
        return LogisticRegression(rows, self.classes, scaling, smoothing, balance, tolerance)

    def _answers_with(self, regression: Regression, share: float = 1.0) -> list[Answers]:
        """Return the answers of heads that have learned a share of the images of other folds."""
        key = (regression, share)
        if key not in self._answers:
            self._answers[key] = _of_folds(
                self._sample,
                self._folds,
                lambda fold: self._answered(fold.with_fewer(share), regression),
            )
        return self._answers[key]

    def _answered(self, fold: _Fold, regression: Regression) -> Answers:
        """Return the answers of the head of a fold with this method and this penalty."""
        return self._tried(fold, {regression.method: (regression.l2,)})[regression]

    def _tried(
        self, fold: _Fold, penalties: Mapping[HeadMethod, Sequence[float]]
    ) -> dict[Regression, Answers]:
        """Return the answers of heads of a fold with some penalties of some methods.

        Weaker penalties are tried until one is worse, because the loss then rises further; see
        docs/benchmarks.md, "Constants of the code".
        """
        tried = {}
        prepared = fold.prepared(turned="logistic_regression" in penalties)
        for method, of_method in penalties.items():
            problem = self._problem(method, prepared.train, prepared.scaling, tolerance=_ROUGH)
            lowest = math.inf
            for penalty in of_method:
                answers = prepared.answers(problem.minimise(penalty))
                tried[Regression(method, penalty)] = answers
                # A strong penalty makes a head less sure, which the temperature undoes.
                loss = float(answers.scores().losses.mean())
                if loss > lowest:
                    break
                lowest = loss
        return tried

    @functools.cached_property
    def _regression(self) -> Regression:
        """The method and the penalty; the folds, which there must be, choose by the lowest loss."""
        if self.rows.regression is not None:
            return self.rows.regression
        penalties = dict(PENALTIES)
        unknowns = min(self.rows.features.shape)  # factors of rows, or weights of features
        if unknowns > WIDEST:
            del penalties["ridge_regression"]
        elif self.classes > FEW_CLASSES:
            del penalties["logistic_regression"]
        tried = _of_folds(self._sample, self._folds, lambda fold: self._tried(fold, penalties))
        losses = {}
        for regression in tried[0]:
            if all(regression in of_fold for of_fold in tried):
                answers = Answers.joined([of_fold[regression] for of_fold in tried])
                losses[regression] = float(answers.scores().losses.mean())
        best = min(losses, key=lambda regression: losses[regression])
        self._answers[best, 1.0] = [of_fold[best] for of_fold in tried]
        return best

    def _solution(self, learning_curve: bool) -> Solution:
        """Return the method and the penalty of the head, and what the folds give with them."""
        if not len(self._folds):
            method, l2 = self.rows.regression or _USUAL
            return {
                "method": method,
                "l2": l2,
                "folds": None,
                "images": None,
                "accuracy": None,
                "standard_error": None,
                "learning_curve": None,
                "gain_error": None,
            }
        answers = Answers.joined(self._answers_with(self._regression))
        points = None
        gain_error = None
        if learning_curve:
            points, gain_error = self._learning_curve()
        return {
            "method": self._regression.method,
            "l2": self._regression.l2,
            "folds": FOLDS,
            "images": len(answers.labels),
            "accuracy": answers.accuracy,
            "standard_error": standard_error(answers.right, answers.groups),
            "learning_curve": points,
            "gain_error": gain_error,
        }

    def _learning_curve(self) -> tuple[list[CurvePoint], float]:
        """Return the learning curve, and the standard error of the gain of its last point."""
        points: list[CurvePoint] = []
        answers: list[Answers] = []
        for share in SHARES:
            of_folds = self._answers_with(self._regression, share)
            images = round(float(np.mean([of_fold.trained_on for of_fold in of_folds])))
            answers.append(Answers.joined(of_folds))
            points.append({"images": images, "accuracy": float(answers[-1].right.mean())})
        # All points are measured on the same images, so the differences are paired.
        gains = answers[-1].right.astype(np.float64) - answers[-2].right
        return points, standard_error(gains, answers[-1].groups)


def _sample(rows: BankRows, classes: int) -> BankRows:
    """Return the rows with which the penalty is chosen."""
    views = len(rows) // max(1, int(rows.is_view_0.sum()))  # of each image
    count = max(_CHOOSING // max(1, views // 2), _CHOOSING_A_CLASS * classes)
    return rows.some_groups(min(count, _MOST_CHOOSING), 2 * FOLDS)


class _Fold(NamedTuple):
    """The rows of one fold: those to train on, and those of view 0 to evaluate on."""

    train: BankRows
    held: BankRows
    scaling: Scaling | None = None  # of the features of both; None if they are scaled already

    def prepared(self, turned: bool) -> _Fold:
        """Return the fold scaled by the rows that are learned from, or turned to their axes."""
        if not turned:
            return self._replace(scaling=Scaling.fit(self.train))
        rotation, train = Rotation.fit(self.train)
        return _Fold(train, rotation.turned(self.held))

    def answers(self, linear: Linear) -> Answers:
        """Return the answers of a head for the rows to evaluate on."""
        parts = [block for _, block in linear.in_blocks(self.held.features)]
        logits = np.concatenate(parts)
        held = self.held
        answerable = np.isin(held.labels, self.train.labels)
        images = int(self.train.is_view_0.sum())
        return Answers(logits, held.labels, held.groups, answerable, held.hashes, images)

    def with_fewer(self, share: float) -> _Fold:
        """Return the fold with a share of its training images."""
        images = int(self.train.is_view_0.sum())
        return self._replace(train=self.train.some_groups(max(1, round(share * images))))


def _split(rows: BankRows, count: int = FOLDS) -> Integers:
    """Return the fold of each row, [n]; none, [0], where there are too few groups for folds.

    There are none either where each class is in one fold.
    """
    if len(np.unique(rows.groups)) < 2 * count:
        return np.empty(0, np.int64)
    numbers = rows.folds(count)
    labels_in_folds = np.unique(np.stack([rows.labels, numbers]), axis=1)[0]
    divided = len(np.unique(labels_in_folds)) < len(labels_in_folds)
    return numbers if divided else numbers[:0]


def _of_folds(rows: BankRows, numbers: Integers, solve: Callable[[_Fold], _T]) -> list[_T]:
    """Return what a function returns for each fold, of which few are in memory at the same time."""

    def solved(number: int) -> _T:
        held = numbers == number
        fold = _Fold(rows.select(~held), rows.select(held & rows.is_view_0))
        learned = Learned.of(fold.train.hashes, fold.train.groups)  # by weights and scaling
        learned.require_unseen(fold.held.hashes, fold.held.groups, "the head of a fold")
        return solve(fold)

    at_once = min(processors(), max(1, _MOST_AT_ONCE // len(rows)))
    # Half of the time is spent in products of matrices, during which other threads may run Python.
    # The limit of one BLAS thread is set here too, because the folds enter and leave it together.
    with one_blas_thread(), ThreadPoolExecutor(at_once) as threads:
        return list(threads.map(solved, np.unique(numbers)))
