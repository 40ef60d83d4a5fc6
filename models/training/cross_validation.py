"""The result of a k-fold cross-validation of networks, which a gate can use.

With a validation split of forty images, a single image changes the accuracy by 2.5 points. Here
every image of train and validation is classified once, by a network that was not trained on it.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.models.head.answers import Answers


class Fold(TypedDict):
    """The result of a fold."""

    images: Annotated[int, "Images of the fold."]
    correct: Annotated[int, "Images of the fold that are predicted correctly."]
    trained_on: Annotated[int, "Images of the other folds, which the network was trained on."]
    accuracy: Annotated[float, "Share of the images of the fold that are predicted correctly."]


class Folds(TypedDict):
    """The cross-validation over train and validation."""

    folds: Annotated[int, "Number of folds."]
    std: Annotated[float, "Standard deviation of the accuracies of the folds."]
    min: Annotated[float, "Lowest accuracy of a fold."]
    max: Annotated[float, "Highest accuracy of a fold."]
    images: Annotated[int, "Images in all folds."]
    correct: Annotated[int, "Images that are predicted correctly."]
    groups: Annotated[int, "Number of groups of images, each of which stays in one fold."]
    unlearned: Annotated[
        list[list[int]],
        "Label index and number of images of each class that lies in one fold as a whole. The "
        "network of that fold has not seen the class, so that all of these images count as wrong.",
    ]
    per_fold: Annotated[list[Fold], "The result of each fold."]
    automatic: Annotated[bool, "Whether the run lets the folds decide, and not a setting."]
    validation_images: Annotated[int, "Images of the validation split."]
    alike_apart: Annotated[
        int, "Near-duplicates that may be in different folds, because too many hang together."
    ]


def summary(
    folds: Sequence[tuple[Answers, int]], automatic: bool, validation_images: int, alike_apart: int
) -> Folds:
    """Return the spread and every fold as values that can be written as JSON; see `Folds`.

    `folds` has the answers of the network of each fold for the images of the fold, and the number
    of images that it was trained on.
    """
    per_fold: list[Fold] = [
        {
            "images": len(answers.labels),
            "correct": int(answers.right.sum()),
            "trained_on": trained_on,
            "accuracy": answers.accuracy,
        }
        for answers, trained_on in folds
    ]
    accuracies = [fold["accuracy"] for fold in per_fold]
    joined = Answers.joined([answers for answers, _ in folds])
    labels, counts = np.unique(joined.labels[~joined.answerable], return_counts=True)
    return {
        "folds": len(per_fold),
        "std": statistics.stdev(accuracies),
        "min": min(accuracies),
        "max": max(accuracies),
        "images": len(joined.labels),
        "correct": int(joined.right.sum()),
        "groups": len(np.unique(np.asarray(joined.groups))),
        "unlearned": [list(pair) for pair in zip(labels.tolist(), counts.tolist(), strict=True)],
        "per_fold": per_fold,
        "automatic": automatic,
        "validation_images": validation_images,
        "alike_apart": alike_apart,
    }


def summary_of_others(folds: Sequence[tuple[Answers, int]], before: Folds) -> Folds:
    """Return the summary of other networks on the same folds; see `summary`."""
    apart = before["alike_apart"]
    return summary(folds, before["automatic"], before["validation_images"], apart)
