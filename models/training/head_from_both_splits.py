"""The solved head that learns from train and validation, and is judged by cross-validation.

A fold takes a fraction of a second, because the features are stored already.
"""

from __future__ import annotations

import numpy as np

from imgpipe.models.errors import DataRefused
from imgpipe.models.features.bank import BankRows, Regression, read_facts, read_rows
from imgpipe.models.features.folds import FEW_IMAGES, FOLDS, MOST_OF_HEADS
from imgpipe.models.head.answers import Answers
from imgpipe.models.head.solved_head import HeadSolver, Solution
from imgpipe.models.machine import progress
from imgpipe.models.names import feature_names as names
from imgpipe.models.settings.limits import AUTOMATIC
from imgpipe.models.training.history import Folds, NetworkHistory, summary
from imgpipe.models.training.stages import (
    Inputs,
    Trained,
    fitted_head,
    read_splits,
    row_distribution,
)


def head_from_both_splits(inputs: Inputs) -> Trained | None:
    """Solve the head on the images of train and validation, and judge it by folds, if these decide.

    An image that judges nothing teaches. The folds that choose the penalty also judge, each image
    by a head without it.

    Returns:
        The head; None where the validation split judges, or the network that is trained is not a
        solved head.

    Raises:
        DataRefused: A setting gives a number of folds, and there are too few images for them.
    """
    settings = inputs.settings
    automatic = inputs.folds == AUTOMATIC
    if not (inputs.folds and settings.head_alone and read_facts(inputs.bank_uri)["dim"]):
        return None
    training, validation = read_splits(inputs)
    if automatic and not _folds_judge(inputs, training, validation):
        return None
    splits = (names.TRAIN, names.VALIDATION)
    count = FOLDS if automatic else inputs.folds
    rows = read_rows(inputs.bank_uri, splits, inputs.classes, settings.views.count, count)
    progress.part("the head")
    # What suits the images of train suits them with those of validation, too.
    regression = HeadSolver(training, inputs.classes, settings).earlier_choice
    solver = HeadSolver(rows, inputs.classes, settings)
    head = fitted_head(solver, rows.select(rows.is_view_0), True, regression)
    solution = head.history["solution"]
    if solution is None:
        return None
    progress.part("the folds")
    folds = solver.out_of_fold(Regression(solution["method"], solution["l2"]), count)
    if not folds and automatic:  # nobody has asked for folds
        return None
    if not folds:
        raise DataRefused(
            f"evaluate.cross_validate = {count}: expected at least {2 * count} images, or groups "
            f"of them, and a class of several groups. Received: {len(np.unique(rows.groups))} "
            "groups. Lower it, or add images"
        )
    result = summary(folds, automatic, len(validation), rows.separated)
    if count == FOLDS:  # there is one accuracy of five folds
        solution = _as_judged(solution, result)
    history: NetworkHistory = {
        **head.history,
        "solution": solution,
        "epochs": [{**head.history["epochs"][0], "val_loss": None, "val_accuracy": None}],
        "learned": {names.TRAIN: int(training.is_view_0.sum()), names.VALIDATION: len(validation)},
        "cross_validation": result,
    }
    answers = Answers.joined([fold_answers for fold_answers, _ in folds])
    distribution = row_distribution(training, validation)
    return Trained(head.layers, answers, history, distribution, by_folds=True)


def _folds_judge(inputs: Inputs, training: BankRows, validation: BankRows) -> bool:
    """Return whether folds judge instead of the validation split, if no setting says so.

    They do where validation has few images. They also do where nobody has set these images aside
    and the folds cost nothing, since what they teach is worth more than another judgement.
    """
    if len(np.unique(validation.groups)) < FEW_IMAGES:
        return True
    images = int(training.is_view_0.sum()) + len(validation)
    return read_facts(inputs.bank_uri)["validation_drawn"] and images <= MOST_OF_HEADS


def _as_judged(solution: Solution, folds: Folds) -> Solution:
    """Return a solution with the accuracy of the folds that judge.

    Of many images, those of the solution are answers of heads that have learned from a sample.
    """
    accuracy = folds["correct"] / folds["images"]
    curve = solution["learning_curve"]
    if curve:
        curve = [*curve[:-1], {**curve[-1], "accuracy": accuracy}]
    return {**solution, "accuracy": accuracy, "learning_curve": curve}
