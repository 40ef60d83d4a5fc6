"""k-fold cross-validation of the head on the feature bank, whose result a gate can use.

With a validation split of forty images, a single image changes the accuracy by 2.5 points. Here
every image of train and validation is classified once, by a head that was not trained on it. A fold
takes about a second, because the features are stored already.

The images with which the weights of a fold are chosen (its own small validation split) are never
among those on which the fold is evaluated, since that would give an accuracy that is too high.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from imgpipe.models import feature_names as names
from imgpipe.models.errors import DataRefused
from imgpipe.models.features import folds as fold_rules
from imgpipe.models.features.bank import BankRows, read_rows
from imgpipe.models.head import solved_head
from imgpipe.models.head.answers import Answers
from imgpipe.models.settings import ModelSettings
from imgpipe.models.training.stages import HEAD, Inputs, Trained, fitted_head

#: A head that is trained by epochs needs one in this number of its fold's training images as its
#: validation split, on which the best epoch is chosen.
_PICKING_PARTS: Final = 8


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
    clean = rows.select(rows.clean)
    head = fitted_head(rows, clean, clean, inputs.classes, settings, learning_curve=True)
    penalty = head.history["solution"]["l2"]
    answers, trained_on = solved_head.out_of_fold(rows, inputs.classes, settings, penalty)
    if not answers:  # too few independent images; nobody has asked for folds
        return trained
    epoch = head.history["epochs"][0] | {"val_loss": None, "val_accuracy": None}
    learned = trained.history["learned"] | {names.VALIDATION: held_out}
    found = summary(answers, trained_on)
    history = {"epochs": [epoch], "learned": learned, "cross_validation": found}
    history = {**trained.history, **head.history, **history}
    judged_by = {"answers": Answers.joined(answers), "by_folds": True}
    return replace(trained, layers=head.layers, history=history, **judged_by)


def cross_validate(
    rows: BankRows, folds: int, classes: int, settings: ModelSettings
) -> dict[str, Any]:
    """Trains and evaluates one head for each fold.

    Args:
        rows: All views of train and validation. Only view 0 is evaluated, and the images of one
            group are in one fold.
        folds: Number of folds, at least 2.
        classes: Number of classes.
        settings: Settings of head and training, the same as the Trainer's.

    Returns:
        The results of all folds, see `summary`.

    Raises:
        DataRefused: There are fewer sets of images than folds, or too few to choose weights.
    """
    if settings.strategy != "none":  # a fold is too small to be shared
        # Without a strategy, "auto" would solve the heads, which the Trainer trains by epochs.
        optimizer = "adam" if settings.optimizer == "auto" else settings.optimizer
        settings = replace(settings, strategy="none", optimizer=optimizer)
    groups = len(np.unique(rows.groups))
    if groups < folds + 1:
        raise DataRefused(
            f"evaluate.cross_validate = {folds}: expected more than {folds} images, or groups of "
            f"them, to divide. Received: {groups}. Lower it, or add images"
        )
    fold = rows.folds(folds)
    heads, trained_on = [], []
    for number in range(folds):
        rest, held = rows.select(fold != number), rows.select((fold == number) & rows.clean)
        train, choosing = (rest, held) if settings.solved else _divided(rest)
        heads.append(fitted_head(train, choosing, held, classes, settings).answers)
        trained_on.append(int(train.clean.sum()))
    return summary(heads, trained_on)


def _divided(rest: BankRows) -> tuple[BankRows, BankRows]:
    """Divide the training images of a fold into those to train on and those that choose the epoch.

    The division is by groups again, so that no near-duplicate of a training image chooses.
    """
    count = len(np.unique(rest.groups))
    if count < 2:
        raise DataRefused(
            "evaluate.cross_validate: one group holds so many of the images that a fold has "
            "nothing else to train on. Raise the number of folds, or divide the group"
        )
    choosing = rest.folds(min(_PICKING_PARTS, count)) == 0
    return rest.select(~choosing), rest.select(choosing & rest.clean)


def summary(folds: Sequence[Answers], trained_on: Sequence[int]) -> dict[str, Any]:
    """Return the mean, the spread and every fold as values that can be written as JSON.

    `std` is the standard deviation of the folds' accuracies. `unlearned` has label index and number
    of images of each class that lies in one fold as a whole. The network of that fold has not seen
    the class, so that all of these images count as wrong.

    Args:
        folds: The answers of the network of each fold for the images of the fold.
        trained_on: Number of training images of each fold, without its own validation split.
    """
    per_fold = [
        {
            "images": len(one.labels),
            "correct": int(one.right.sum()),
            "trained_on": count,
            "accuracy": one.accuracy,
        }
        for one, count in zip(folds, trained_on, strict=True)
    ]
    shares, answers = [fold["accuracy"] for fold in per_fold], Answers.joined(folds)
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
        "groups": sum(len(np.unique(np.asarray(one.groups))) for one in folds),
        "unlearned": [list(pair) for pair in zip(classes.tolist(), counts.tolist(), strict=True)],
        # Images of each class, images that it was predicted for, and those where it is right.
        "labels": np.bincount(answers.labels, minlength=every).tolist(),
        "predicted": np.bincount(answers.logits.argmax(axis=1), minlength=every).tolist(),
        "right": np.bincount(answers.labels[answers.right], minlength=every).tolist(),
        "per_fold": per_fold,
    }
