"""k-fold cross-validation of the solved head on the feature bank, whose result a gate can use.

With a validation split of forty images, a single image changes the accuracy by 2.5 points. Here
every image of train and validation is classified once, by a head that was not trained on it. A fold
takes a fraction of a second, because the features are stored already.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from imgpipe.models import feature_names as names
from imgpipe.models.errors import DataRefused
from imgpipe.models.features import folds as fold_rules
from imgpipe.models.features.bank import BankRows, read_rows
from imgpipe.models.head import solved_head
from imgpipe.models.head.answers import Answers
from imgpipe.models.settings import ModelSettings
from imgpipe.models.training.stages import HEAD, Inputs, Trained, fitted_head


def learned_from_both(inputs: Inputs, trained: Trained) -> Trained:
    """Solve the head of few images on those of train and validation, and judge it by folds.

    An image that judges nothing teaches. The folds that choose the penalty also judge, each image
    by a head without it. Where validation has enough images to judge, or the network is not a
    solved head, what was trained is returned as it is.
    """
    held_out, settings = len(trained.answers.labels), inputs.settings
    judged = inputs.by_folds and settings.solved and trained.history["trained"] == HEAD
    if not judged or held_out >= fold_rules.FEW_IMAGES:
        return trained
    both, most_view = (names.TRAIN, names.VALIDATION), settings.views.count
    rows = read_rows(inputs.bank_uri, both, inputs.classes, most_view)
    head = fitted_head(rows, rows.select(rows.clean), inputs.classes, settings, True)
    penalty = head.history["solution"]["l2"]
    folds = solved_head.out_of_fold(rows, inputs.classes, settings, penalty)
    if not folds:  # too few independent images; nobody has asked for folds
        return trained
    epoch = head.history["epochs"][0] | {"val_loss": None, "val_accuracy": None}
    learned = trained.history["learned"] | {names.VALIDATION: held_out}
    history = {"epochs": [epoch], "learned": learned, "cross_validation": summary(folds)}
    history = {**trained.history, **head.history, **history}
    answers = Answers.joined([one for one, _ in folds])
    return replace(trained, layers=head.layers, answers=answers, history=history, by_folds=True)


def cross_validate(
    rows: BankRows, folds: int, classes: int, settings: ModelSettings
) -> dict[str, Any]:
    """Solve and evaluate one head for each fold, with the penalty that folds choose.

    Args:
        rows: All views of train and validation. Only view 0 is evaluated, and the images of one
            group are in one fold.
        folds: Number of folds, at least 2.
        classes: Number of classes.
        settings: Settings of head and training, the same as the Trainer's.

    Returns:
        The results of all folds, see `summary`.

    Raises:
        DataRefused: There are fewer than two groups of images for each fold.
    """
    penalty = solved_head.solve(rows, classes, settings, learning_curve=False).facts["l2"]
    found = solved_head.out_of_fold(rows, classes, settings, penalty, folds)
    if not found:
        raise DataRefused(
            f"evaluate.cross_validate = {folds}: expected at least {2 * folds} images, or groups "
            "of them, and a class of several groups. Received: "
            f"{len(np.unique(rows.groups))} groups. Lower it, or add images"
        )
    return summary(found)


def summary(folds: Sequence[tuple[Answers, int]]) -> dict[str, Any]:
    """Return the mean, the spread and every fold as values that can be written as JSON.

    `std` is the standard deviation of the folds' accuracies. `unlearned` has label index and number
    of images of each class that lies in one fold as a whole. The network of that fold has not seen
    the class, so that all of these images count as wrong.

    Args:
        folds: The answers of the network of each fold for the images of the fold, and the number
            of images that it was trained on.
    """
    per_fold = [
        {
            "images": len(one.labels),
            "correct": int(one.right.sum()),
            "trained_on": count,
            "accuracy": one.accuracy,
        }
        for one, count in folds
    ]
    shares = [fold["accuracy"] for fold in per_fold]
    answers = Answers.joined([one for one, _ in folds])
    classes, counts = np.unique(answers.labels[~answers.answerable], return_counts=True)
    every = answers.logits.shape[1]
    return {
        "folds": len(shares),
        "mean": statistics.fmean(shares),
        "std": statistics.stdev(shares),
        "min": min(shares),
        "max": max(shares),
        "images": len(answers.labels),
        "correct": int(answers.right.sum()),
        "groups": len(np.unique(np.asarray(answers.groups))),
        "unlearned": [list(pair) for pair in zip(classes.tolist(), counts.tolist(), strict=True)],
        # Images of each class, images that it was predicted for, and those where it is right.
        "labels": np.bincount(answers.labels, minlength=every).tolist(),
        "predicted": np.bincount(answers.logits.argmax(axis=1), minlength=every).tolist(),
        "right": np.bincount(answers.labels[answers.right], minlength=every).tolist(),
        "per_fold": per_fold,
    }
