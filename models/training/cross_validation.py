"""k-fold cross-validation of the solved head on the feature bank, whose result a gate can use.

With a validation split of forty images, a single image changes the accuracy by 2.5 points. Here
every image of train and validation is classified once, by a head that was not trained on it. A fold
takes a fraction of a second, because the features are stored already.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from imgpipe.models import feature_names as names
from imgpipe.models.errors import DataRefused
from imgpipe.models.features.bank import read_facts, read_rows
from imgpipe.models.features.folds import AUTOMATIC, FEW_IMAGES, FOLDS
from imgpipe.models.head import solved_head
from imgpipe.models.head.answers import Answers
from imgpipe.models.training.stages import Inputs, Trained, described, fitted_head, rows_of


def learned_from_both(inputs: Inputs) -> Trained | None:
    """Solve the head on the images of train and validation, and judge it by folds, if these decide.

    An image that judges nothing teaches. The folds that choose the penalty also judge, each image
    by a head without it.

    Returns:
        The head; None where validation has enough images to judge, or the network that is trained
        is not a solved head.

    Raises:
        DataRefused: A setting gives a number of folds, and there are too few images for them.
    """
    settings, automatic = inputs.settings, inputs.folds == AUTOMATIC
    if not (inputs.folds and settings.head_alone and read_facts(inputs.bank_uri).dim):
        return None
    training, validation = rows_of(inputs)
    if automatic and len(np.unique(validation.groups)) >= FEW_IMAGES:
        return None
    both, count = (names.TRAIN, names.VALIDATION), FOLDS if automatic else inputs.folds
    rows = read_rows(inputs.bank_uri, both, inputs.classes, settings.views.count, count)
    head = fitted_head(rows, rows.select(rows.clean), inputs.classes, settings, True)
    penalty = head.history["solution"]["l2"]
    folds = solved_head.out_of_fold(rows, inputs.classes, settings, penalty, count)
    if not folds and automatic:  # nobody has asked for folds
        return None
    if not folds:
        raise DataRefused(
            f"evaluate.cross_validate = {count}: expected at least {2 * count} images, or groups "
            f"of them, and a class of several groups. Received: {len(np.unique(rows.groups))} "
            "groups. Lower it, or add images"
        )
    known = {
        "automatic": automatic,
        "validation_images": len(validation),
        "alike_apart": rows.separated,
    }
    history = {
        **head.history,
        "epochs": [head.history["epochs"][0] | {"val_loss": None, "val_accuracy": None}],
        "learned": {names.TRAIN: int(training.clean.sum()), names.VALIDATION: len(validation)},
        "cross_validation": known | summary(folds),
    }
    answers = Answers.joined([one for one, _ in folds])
    return Trained(head.layers, answers, history, described(training, validation), by_folds=True)


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
        # Images of each class, images that it was predicted for, those where it is right, and its
        # groups of images.
        "labels": np.bincount(answers.labels, minlength=every).tolist(),
        "predicted": np.bincount(answers.logits.argmax(axis=1), minlength=every).tolist(),
        "right": np.bincount(answers.labels[answers.right], minlength=every).tolist(),
        "families": _groups_by_class(answers, every),
        "per_fold": per_fold,
    }


def _groups_by_class(answers: Answers, classes: int) -> list[int]:
    """Return the number of groups of the images of each class."""
    pairs = np.unique(np.stack([answers.labels, _numbers(answers)]), axis=1)
    return np.bincount(pairs[0], minlength=classes).tolist()


def _numbers(answers: Answers) -> np.ndarray:
    """Return the number of the group of each image, [n]."""
    if answers.groups is None:
        return np.arange(len(answers.labels))
    return np.unique(answers.groups, return_inverse=True)[1]
