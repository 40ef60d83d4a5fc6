"""The record of a training, with the figures of its folds.

With a validation split of forty images, a single image changes the accuracy by 2.5 points. Here
every image of train and validation is classified once, by a network that was not trained on it.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Annotated, Final, Literal

import numpy as np
from typing_extensions import TypedDict

from imgpipe.models.finding import Finding
from imgpipe.models.head.answers import Answers
from imgpipe.models.head.calibration import Calibration
from imgpipe.models.head.solved_head import Solution

#: Why a network was not trained to its end, by the word in `Tried`.
FAILURES: Final = {
    "diverged": "diverged",
    "memory": "memory ran out",
    "disk": "the disk was full",
}
#: Names of the accuracies by what judges, as `Tried` holds it. A run that is not judged by folds
#: measures them with the network that was trained, and its verdict with the exported one.
JUDGES: Final = {
    "validation": "validation accuracy in training",
    "folds": "cross-validation accuracy",
}
#: What networks are judged on: the validation split, or the folds of train and validation.
JudgedBy = Literal["validation", "folds"]
#: What another run trains again with the same images, settings and packages. "weights": the same
#: weights bit for bit, on the same machine. "plan": for the same views and epochs; a GPU does not
#: add in the same order each time. "nothing": memory or the free space of the disk has decided.
Reproducible = Literal["weights", "plan", "nothing"]
#: Why a training ended.
StopReason = Literal["target", "plateau", "epochs", "diverged", "solved"]


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


def summary(folds: Sequence[Answers], automatic: bool, validation_images: int) -> Folds:
    """Return the spread and every fold as values that can be written as JSON; see `Folds`.

    `folds` has the answers of the network of each fold for the images of the fold.
    """
    per_fold: list[Fold] = [
        {
            "images": len(answers.labels),
            "correct": int(answers.right.sum()),
            "trained_on": answers.trained_on,
            "accuracy": float(answers.right.mean()),
        }
        for answers in folds
    ]
    accuracies = [fold["accuracy"] for fold in per_fold]
    joined = Answers.joined(folds)
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
    }


class Epoch(TypedDict):
    """An epoch of a training. A value is null if it was not finite."""

    epoch: Annotated[int, "Number of the epoch, counted from 1."]
    loss: Annotated[float | None, "Loss on the training images."]
    accuracy: Annotated[float | None, "Accuracy on the training images."]
    val_loss: Annotated[
        float | None,
        "Loss on the validation images; null where the network has learned from them, or from "
        "the families of all of them.",
    ]
    val_accuracy: Annotated[
        float | None,
        "Accuracy on the validation images; null where the network has learned from them, or from "
        "the families of all of them.",
    ]


class Stage(TypedDict):
    """A training by epochs, or a head that was solved, which has one epoch."""

    epochs: Annotated[list[Epoch], "The epochs that were trained."]
    best_epoch: Annotated[
        int, "Epoch whose weights are used, counted from 1; 1 for a head that was solved."
    ]
    stopped: Annotated[StopReason, "Why the training ended."]
    seconds: Annotated[float, "Duration of the training."]


class FineTuned(Stage):
    """Training of layers above a cut, or of all layers."""

    trained: Annotated[str, "What was trained."]
    head_accuracy: Annotated[
        float | None, "Held-out accuracy of the head; null where no image judges."
    ]
    accuracy: Annotated[
        float | None, "Held-out accuracy after fine-tuning; null where no image judges."
    ]


class Tried(TypedDict):
    """A network that was tried."""

    what: Annotated[str, "The network, in words."]
    judged_by: Annotated[
        JudgedBy,
        "What it was judged on: the validation split, or the folds of train and validation.",
    ]
    accuracy: Annotated[
        float | None, "Accuracy there; null if the training failed, or no image judges."
    ]
    gain: Annotated[float | None, "Gain over the head; null for the head itself."]
    standard_error: Annotated[float | None, "Paired standard error of the gain."]
    seconds: Annotated[float, "Duration of the training of this network."]
    kept: Annotated[bool, "Whether it is the result."]
    failure: Annotated[
        Literal["diverged", "memory", "disk"] | None, "Why the training failed; null otherwise."
    ]


class NetworkHistory(Stage):
    """How a network was trained."""

    trained: Annotated[str, "What was trained: `head`, or the layers."]
    solution: Annotated[Solution | None, "How a solved head was found; null for another model."]
    fine_tune: Annotated[FineTuned | None, "The fine-tuning; null without one."]
    learned: Annotated[
        dict[str, int], "Number of images from which the model has learned, by split."
    ]
    cross_validation: Annotated[Folds | None, "The folds that judge; null without them."]
    search: Annotated[list[Tried] | None, "The networks that were tried; null without a search."]
    search_ended: Annotated[
        Finding | None,
        "Why the search ended; null without a search. Some of its reasons are: `all`, the training "
        "that the images, the size and the network give was done; `no_gain`, it ended early, "
        "because the network was not better than the head; `cost`, the smallest one costs more "
        "than a run without minutes trains; `minutes`, the minutes that were given have decided "
        "what was trained, or whether anything was; `space`, the free space for temporary files "
        "has.",
    ]
    reproducible: Annotated[
        Reproducible,
        "What another run trains again with the same images, settings and packages. weights: the "
        "same weights bit for bit, on the same machine; plan: the same views and epochs, with "
        "weights that may differ in their last digits, as on a GPU; nothing: the memory, or the "
        "free space for temporary files, has decided what was trained.",
    ]


class History(NetworkHistory):
    """The content of `history.json`: how the exported model was trained."""

    calibration: Annotated[Calibration, "The calibration of the probabilities."]
    image_size: Annotated[int, "Width and height of the images that the exported network sees."]
    features: Annotated[
        str,
        "What the head of the exported network reads, as the setting `model.features` names it.",
    ]
    tells_unlike: Annotated[
        bool, "Whether the model can mark images that are unlike all from which it has learned."
    ]


def describe_tried(tried: Tried) -> str:
    """Describe in one line what was tried, what it gained, and how long it took."""
    seconds = f"{tried['seconds']:.0f} s"
    kept = "kept" if tried["kept"] else "not kept"
    if tried["failure"] is not None:
        return f"{tried['what']}: {FAILURES[tried['failure']]}, {seconds}, {kept}"
    if tried["accuracy"] is None:
        return f"{tried['what']}: no image judges, {seconds}"
    accuracy = f"{JUDGES[tried['judged_by']]} {tried['accuracy']:.3f}"
    if tried["gain"] is None:
        return f"{tried['what']}: {accuracy}, {seconds}"
    gain = f"{tried['gain']:+.3f}, standard error {tried['standard_error']:.3f}"
    return f"{tried['what']}: {accuracy} ({gain}), {seconds}, {kept}"
