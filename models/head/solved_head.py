"""Solves the linear head on stored features, without epochs or a learning rate.

The loss of a linear head is convex, so there is exactly one best head for a given penalty. It is
found in a second or two, and every run finds the same one: by logistic regression for few classes,
and by ridge regression for many. Cross-validation over the training
images chooses the penalty, and also gives the learning curve, which shows whether more images would
help. Images of one group are always in one fold, so that no head is evaluated on a near-duplicate
of an image that it was trained on.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Annotated, Final, Literal, NamedTuple

import numpy as np
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.models.features.bank import BankRows, ChosenPenalty
from imgpipe.models.features.folds import FOLDS
from imgpipe.models.head.answers import Answers, Scores
from imgpipe.models.head.certainty import standard_error
from imgpipe.models.head.logistic_regression import Linear, LogisticRegression, Scaling
from imgpipe.models.head.ridge_regression import LEAST_UNIT, WIDEST, RidgeRegression
from imgpipe.models.head.rotation import Axes, Rotation
from imgpipe.models.machine.process import one_blas_thread
from imgpipe.models.machine.system import processors
from imgpipe.models.names.arrays import Flags, Names
from imgpipe.models.settings.model import ModelSettings

#: Penalties that are tried, from the strongest to the weakest. Each search begins with the solution
#: for the penalty before, which is near. Without such a start, weaker ones are not solved exactly.
PENALTIES: Final = tuple(float(10**power) for power in np.arange(1.0, -3.1, -1))
#: With more classes, heads are solved by ridge regression, whose time hardly grows with them; see
#: docs/benchmarks.md, "Many classes".
FEW_CLASSES: Final = 30
#: Shares of a fold's training images for which the learning curve has a point.
SHARES: Final = (1 / 8, 1 / 4, 1 / 2)

_CHOOSING: Final = 2000  # images with which the penalty is chosen; more images barely change it
_CHOOSING_A_CLASS: Final = 10  # … unless these are fewer than this times the number of classes
#: Rows that are turned to their principal axes for the final head, at most. There, a step of the
#: solver costs a fifth of one on stored features, which are converted to float32 in each step. The
#: time to find the axes grows with the cube of the rows, and the memory with their square.
_MOST_TURNED: Final = 4000
_USUAL_PENALTY: Final = 0.25  # used when there are too few images to choose a penalty
#: Relative decrease of the loss below which the head of a fold, and another one, counts as solved.
_ROUGH: Final = 1e-5
_EXACT: Final = 1e-8

_Problem = LogisticRegression | RidgeRegression


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

    method: Annotated[
        Literal["logistic_regression", "ridge_regression"],
        "What was solved: logistic regression for few classes, ridge regression for many.",
    ]
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


class HeadSolver:
    """Solves heads on some rows. What several of its methods need is computed once.

    Args:
        rows: Training rows of view 0 and of any augmented views. If a penalty was chosen for the
            same rows before, it is in `rows.penalties` and is not chosen again.
        classes: Number of classes.
        settings: Settings of the training: `label_smoothing` and `balance` are used.
    """

    def __init__(self, rows: BankRows, classes: int, settings: ModelSettings) -> None:
        self.rows = rows
        self.classes = classes
        self.settings = settings
        # The loss is a sum over rows, so a penalty that suits some of the rows suits all of them.
        self._sample = _sample(rows, classes)
        #: Answers of the heads of the folds by their penalty.
        self._answers: dict[float, list[Answers]] = {}

    def judge(self) -> Judgement | None:
        """Evaluate the rows by cross-validation; None when there are too few images.

        The penalty is that of the lowest loss. Rows of other views of the same images are evaluated
        on the same images in the same order.
        """
        if not self._folds:
            return None
        penalty, scores = self._best
        wrong = np.flatnonzero(~scores.right).tolist()
        return Judgement(scores, {"rows": self._digest, "l2": penalty, "wrong": wrong})

    def solve(self, learning_curve: bool = True, penalty: float | None = None) -> SolvedHead:
        """Find the best linear head.

        Args:
            learning_curve: Whether to compute the learning curve, which takes as long as the choice
                of the penalty. The head does not depend on it.
            penalty: Penalty of the weights; None chooses it by the folds.
        """
        result = self._result(learning_curve, penalty)
        few = len(self.rows) <= _MOST_TURNED
        rotation, turned = self._all_turned if few else self._turned
        problem = self._problem(turned)
        linear = rotation.for_stored_features(problem.minimise(result["l2"]))
        if len(turned) < len(self.rows):
            problem = self._problem(self.rows, rotation.scaling, linear)
            linear = problem.minimise(result["l2"])
        solution: Solution = {
            **result,
            "method": "ridge_regression" if self._closed_form else "logistic_regression",
            "iterations": problem.iterations,
        }
        return SolvedHead(linear, solution)

    def out_of_fold(self, penalty: float, count: int = FOLDS) -> list[tuple[Answers, int]]:
        """Return the answers of the head of each fold, and how many images it has learned.

        There are none where `_split` returns no folds. All heads have the same penalty.
        """
        if count == FOLDS and len(self._sample) == len(self.rows):
            folds = self._folds
            answers = self._answers_with(penalty) if folds else []
        else:
            folds = _split(self._all_turned[1], count)
            answers = _all_answers(penalty, folds, self._fold_problems(folds))
        images = [int(fold.train.is_view_0.sum()) for fold in folds]
        return list(zip(answers, images, strict=True))

    @property
    def earlier_choice(self) -> ChosenPenalty | None:
        """The penalty that was chosen for the same rows before, if there is one."""
        digest = self._digest if self.rows.penalties else ""
        return next((chosen for chosen in self.rows.penalties if chosen["rows"] == digest), None)

    @functools.cached_property
    def _digest(self) -> str:
        """Hash (hex) of all that determines the choice of a penalty."""
        rows = self._sample
        sizes = rows.sizes or (rows.features.shape[1],)
        settings = (self.settings.label_smoothing, self.settings.balance)
        digest = hashlib.sha256(repr((self.classes, *settings, sizes)).encode())
        for column in (rows.features, rows.labels, rows.views, rows.hashes, rows.groups):
            digest.update(np.ascontiguousarray(column).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()

    @functools.cached_property
    def _turned(self) -> tuple[Rotation, BankRows]:
        """Principal axes of the sample, and its rows in their coordinates."""
        return self._rotation(self._sample)

    @functools.cached_property
    def _all_turned(self) -> tuple[Rotation, BankRows]:
        """Principal axes of all rows, and the rows in their coordinates."""
        few = len(self._sample) == len(self.rows)
        return self._turned if few else self._rotation(self.rows)

    def _rotation(self, rows: BankRows) -> tuple[Rotation, BankRows]:
        return Rotation.fit(rows, LEAST_UNIT if self._closed_form else 0.0)

    @functools.cached_property
    def _folds(self) -> list[_Fold]:
        return _split(self._turned[1])

    @functools.cached_property
    def _problems(self) -> list[_Problem]:
        """The problem of each fold, which begins each search with its last solution."""
        return self._fold_problems(self._folds)

    def _fold_problems(self, folds: Sequence[_Fold]) -> list[_Problem]:
        return [self._problem(fold.train, tolerance=_ROUGH) for fold in folds]

    @property
    def _closed_form(self) -> bool:
        """Whether heads are solved by ridge regression."""
        unknowns = min(self.rows.features.shape)  # factors of rows, or weights of features
        return self.classes > FEW_CLASSES and unknowns <= WIDEST

    def _problem(
        self,
        rows: BankRows,
        scaling: Scaling | None = None,
        start: Linear | None = None,
        tolerance: float = _EXACT,
    ) -> _Problem:
        smoothing = self.settings.label_smoothing
        balance = self.settings.balance
        if self._closed_form:
            return RidgeRegression(rows, self.classes, scaling, smoothing, balance)
        return LogisticRegression(rows, self.classes, scaling, smoothing, balance, start, tolerance)

    def _answers_with(self, penalty: float) -> list[Answers]:
        """Return the answers of the heads of the folds with this penalty."""
        if penalty not in self._answers:
            self._answers[penalty] = _all_answers(penalty, self._folds, self._problems)
        return self._answers[penalty]

    @functools.cached_property
    def _best(self) -> tuple[float, Scores]:
        """The penalty with the lowest loss, and the scores of the folds with it.

        Weaker penalties are tried until one is worse, because the loss then rises further; see
        docs/benchmarks.md, "Constants of the code".
        """

        def scores_with(penalty: float) -> Scores:
            # A strong penalty makes a head less sure, which the temperature undoes.
            return Answers.joined(self._answers_with(penalty)).scores()

        best = PENALTIES[0]
        best_scores = scores_with(best)
        for penalty in PENALTIES[1:]:
            scores = scores_with(penalty)
            if float(scores.losses.mean()) >= float(best_scores.losses.mean()):
                break
            best = penalty
            best_scores = scores
        return best, best_scores

    def _result(self, learning_curve: bool, penalty: float | None) -> FoldResult:
        """Return the penalty of the head, and what the folds give with it."""
        if not self._folds:
            return {
                "l2": _USUAL_PENALTY,
                "folds": None,
                "images": None,
                "accuracy": None,
                "standard_error": None,
                "learning_curve": None,
                "gain_error": None,
            }
        chosen, right = self._chosen(penalty)
        groups = np.concatenate([fold.held.groups for fold in self._folds])
        points = None
        gain_error = None
        if learning_curve:
            points, gain_error = self._learning_curve(chosen, right, groups)
        return {
            "l2": chosen,
            "folds": FOLDS,
            "images": len(right),
            "accuracy": float(right.mean()),
            "standard_error": standard_error(right, groups),
            "learning_curve": points,
            "gain_error": gain_error,
        }

    def _chosen(self, penalty: float | None) -> tuple[float, Flags]:
        """Return the penalty, given or chosen before or here, and which answers it makes right."""
        earlier = self.earlier_choice
        if penalty is None and earlier is not None:
            right = np.ones(sum(len(fold.held) for fold in self._folds), np.bool_)
            right[earlier["wrong"]] = False
            return earlier["l2"], right
        chosen = self._best[0] if penalty is None else penalty
        return chosen, Answers.joined(self._answers_with(chosen)).right

    def _learning_curve(
        self, penalty: float, right: Flags, groups: Names
    ) -> tuple[list[CurvePoint], float]:
        """Return the learning curve, and the standard error of the gain of its last point.

        Args:
            penalty: Penalty of the weights.
            right: Which answers of the folds are right, bool [n].
            groups: Name of the group of each of their images, [n].
        """
        points: list[CurvePoint] = []
        for share in SHARES:
            count, right_of_fewer = self._with_fewer(share, penalty)
            points.append({"images": count, "accuracy": float(right_of_fewer.mean())})
        points.append({"images": _images(self._folds), "accuracy": float(right.mean())})
        # All points are measured on the same images, so the differences are paired.
        gains = right.astype(np.float64) - right_of_fewer
        return points, standard_error(gains, groups)

    def _with_fewer(self, share: float, penalty: float) -> tuple[int, Flags]:
        """Return the mean number of training images, and which answers of their heads are right."""
        folds = [fold.with_fewer(share) for fold in self._folds]
        answers = _all_answers(penalty, folds, self._fold_problems(folds))
        return _images(folds), Answers.joined(answers).right


def _sample(rows: BankRows, classes: int) -> BankRows:
    """Return the rows with which the penalty is chosen."""
    views = len(rows) // max(1, int(rows.is_view_0.sum()))  # of each image
    count = max(_CHOOSING // max(1, views // 2), _CHOOSING_A_CLASS * classes)
    return rows.some_groups(count, 2 * FOLDS)


class _Fold(NamedTuple):
    """The rows of one fold: those to train on, and those of view 0 to evaluate on."""

    train: BankRows
    held: BankRows
    answerable: Flags  # whether `train` has images of the class of each row of `held`

    def answers(self, linear: Linear) -> Answers:
        """Return the answers of a head for the rows to evaluate on."""
        parts = [block for _, block in linear.in_blocks(self.held.features)]
        held = self.held
        logits = np.concatenate(parts)
        return Answers(logits, held.labels, held.groups, self.answerable, held.hashes)

    def with_fewer(self, share: float) -> _Fold:
        """Return the fold with a share of its training images, in fewer coordinates."""
        count = max(1, round(share * len(np.unique(self.train.hashes))))
        train = self.train.some_groups(count)
        if len(train) >= train.features.shape[1]:
            return self._replace(train=train)
        axes, turned = Axes.fit(train.features)
        held = replace(self.held, features=axes.coordinates(self.held.features))
        return self._replace(train=replace(train, features=turned), held=held)


def _split(rows: BankRows, count: int = FOLDS) -> list[_Fold]:
    """Return the folds; none where there are too few groups, or each class is in one fold."""
    if len(np.unique(rows.groups)) < 2 * count:
        return []
    numbers = rows.folds(count)
    folds = []
    for fold in range(count):
        train = rows.select(numbers != fold)
        held = rows.select((numbers == fold) & rows.is_view_0)
        folds.append(_Fold(train, held, np.isin(held.labels, train.labels)))
    return folds if any(fold.answerable.any() for fold in folds) else []


def _all_answers(
    penalty: float, folds: Sequence[_Fold], problems: Sequence[_Problem]
) -> list[Answers]:
    """Return the answers of the heads of all folds with this penalty."""
    # Half of the time is spent in products of matrices, during which other threads may run Python.
    # The limit of one BLAS thread is set here too, because the folds enter and leave it together.
    with one_blas_thread(), ThreadPoolExecutor(processors()) as threads:
        return list(threads.map(functools.partial(_answers, penalty), folds, problems))


def _answers(penalty: float, fold: _Fold, problem: _Problem) -> Answers:
    """Return the answers of a head of a fold with this penalty."""
    return fold.answers(problem.minimise(penalty))


def _images(folds: Sequence[_Fold]) -> int:
    """Return the mean number of training images of a fold."""
    return round(float(np.mean([len(np.unique(fold.train.hashes)) for fold in folds])))
