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
from imgpipe.models.features.bank import read_rows
from imgpipe.models.features.folds import AUTOMATIC, FEW_IMAGES, FOLDS
from imgpipe.models.head import solved_head
from imgpipe.models.head.answers import Answers
from imgpipe.models.training.stages import HEAD, Inputs, Trained, fitted_head


def learned_from_both(inputs: Inputs, trained: Trained) -> Trained:
    """Solve the head on the images of train and validation, and judge it by folds, if these decide.

    An image that judges nothing teaches. The folds that choose the penalty also judge, each image
    by a head without it. Where validation has enough images to judge, or the network is not a
    solved head, what was trained is returned as it is.

    Raises:
        DataRefused: A setting gives a number of folds, and there are too few images for them.
    """
    held_out, settings = len(trained.answers.labels), inputs.settings
    automatic = inputs.folds == AUTOMATIC
    judged = inputs.folds and settings.solved and trained.history["trained"] == HEAD
    if not judged or (automatic and held_out >= FEW_IMAGES):
        return trained
    both, count = (names.TRAIN, names.VALIDATION), FOLDS if automatic else inputs.folds
    rows = read_rows(inputs.bank_uri, both, inputs.classes, settings.views.count, count)
    head = fitted_head(rows, rows.select(rows.clean), inputs.classes, settings, True)
    penalty = head.history["solution"]["l2"]
    folds = solved_head.out_of_fold(rows, inputs.classes, settings, penalty, count)
    if not folds and automatic:  # nobody has asked for folds
        return trained
    if not folds:
        raise DataRefused(
            f"evaluate.cross_validate = {count}: expected at least {2 * count} images, or groups "
            f"of them, and a class of several groups. Received: {len(np.unique(rows.groups))} "
            "groups. Lower it, or add images"
        )
    epoch = head.history["epochs"][0] | {"val_loss": None, "val_accuracy": None}
    learned = trained.history["learned"] | {names.VALIDATION: held_out}
    known = {"automatic": automatic, "validation_images": held_out, "alike_apart": rows.separated}
    history = {"epochs": [epoch], "learned": learned, "cross_validation": known | summary(folds)}
    history = {**trained.history, **head.history, **history}
    answers = Answers.joined([one for one, _ in folds])
    return replace(trained, layers=head.layers, answers=answers, history=history, by_folds=True)


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
