"""k-fold cross-validation of the head on the feature bank, whose result a gate can use.

With a validation split of forty images, a single image changes the accuracy by 2.5 points. Here
every image of train and validation is classified once, by a head that was not trained on it. A fold
takes about a second, because the features are stored already.

The images with which the weights of a fold are chosen (its own small validation split) are never
among those on which the fold is evaluated, since that would give an accuracy that is too high.
"""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from imgpipe.models.errors import DataRefused
from imgpipe.models.features import row_file
from imgpipe.models.features.bank import BankRows
from imgpipe.models.features.folds import Integers, assign, of_rows
from imgpipe.models.features.hash_column import distinct
from imgpipe.models.settings import ModelSettings
from imgpipe.models.training.training_loop import fit_head

#: Each fold uses one in this number of its training images as its validation split, on which the
#: best epoch is chosen.
_PICKING_PARTS: Final = 8
#: Number of rows in one forward pass of the head. It affects memory only.
_ROWS_AT_ONCE: Final = 1024


@dataclass(frozen=True)
class Fold:
    """The result of one fold, on images that its head was not trained on."""

    images: int
    correct: int
    trained_on: int  # number of training images without the fold's validation split
    epochs: int
    best_epoch: int
    seconds: float

    @property
    def accuracy(self) -> float:
        """Share of images whose label was predicted correctly."""
        return self.correct / self.images


@dataclass(frozen=True)
class CrossValidation:
    """The results of all folds."""

    folds: tuple[Fold, ...]
    groups: int  # number of sets of images that were kept in one fold
    #: Label index and number of images of each class that lies in one fold as a whole. The head of
    #: that fold has not seen the class, so that all of these images count as wrong.
    unlearned: tuple[tuple[int, int], ...] = ()

    def summary(self) -> dict[str, Any]:
        """Return the mean, the spread and every fold as values that can be written as JSON.

        `std` is the standard deviation of the folds' accuracies.
        """
        shares = [fold.accuracy for fold in self.folds]
        return {
            "folds": len(shares),
            "mean": statistics.fmean(shares),
            "std": statistics.stdev(shares),
            "min": min(shares),
            "max": max(shares),
            "images": sum(fold.images for fold in self.folds),
            "correct": sum(fold.correct for fold in self.folds),
            "groups": self.groups,
            "unlearned": [list(pair) for pair in self.unlearned],
            "seconds": round(sum(fold.seconds for fold in self.folds), 3),
            "per_fold": [
                {**dataclasses.asdict(fold), "accuracy": share}
                for fold, share in zip(self.folds, shares, strict=True)
            ],
        }


def cross_validate(
    rows: BankRows, folds: int, classes: int, settings: ModelSettings
) -> CrossValidation:
    """Trains and evaluates one head for each fold.

    Args:
        rows: All views of train and validation. Only view 0 is evaluated, and the images of one
            group are in one fold.
        folds: Number of folds, at least 2.
        classes: Number of classes.
        settings: Settings of head and training, the same as the Trainer's.

    Returns:
        The results of all folds.

    Raises:
        DataRefused: There are fewer sets of images than folds, or too few to choose weights.
    """
    if settings.strategy != "none":  # a fold is too small to be shared
        # Without a strategy, "auto" would solve the heads, which the Trainer trains by epochs.
        optimizer = "adam" if settings.optimizer == "auto" else settings.optimizer
        settings = dataclasses.replace(settings, strategy="none", optimizer=optimizer)
    clean = rows.views == 0
    groups = distinct(rows.groups[clean])
    if groups < folds + 1:
        raise DataRefused(
            f"evaluate.cross_validate = {folds}: expected more than {folds} images, or groups of "
            f"them, to divide. Received: {groups}. Lower it, or add images"
        )
    fold = of_rows(rows.groups, assign(rows.labels[clean], rows.groups[clean], folds))
    results = [
        _fold(
            rows.select(fold != number),
            rows.select((fold == number) & clean),
            classes,
            settings,
        )
        for number in range(folds)
    ]
    return CrossValidation(tuple(results), groups, unlearned(rows.labels[clean], fold[clean]))


def unlearned(labels: Integers, fold: Integers) -> tuple[tuple[int, int], ...]:
    """Return label index and number of images of the classes that lie in one fold as a whole.

    Args:
        labels: Label indices of the images, [n].
        fold: Fold of each image, [n].
    """
    pairs = np.unique(np.stack([labels, fold], axis=1), axis=0)
    classes, folds_of = np.unique(pairs[:, 0], return_counts=True)
    alone = classes[folds_of == 1].tolist()
    return tuple((label, int((labels == label).sum())) for label in alone)


def _fold(rest: BankRows, held: BankRows, classes: int, settings: ModelSettings) -> Fold:
    """Trains on `rest` and evaluates `held`.

    A head that is trained by epochs needs some of `rest` to choose the weights of the best epoch.
    """
    count = distinct(rest.groups)
    if count < 2:
        raise DataRefused(
            "evaluate.cross_validate: one group holds so many of the images that a fold has "
            "nothing else to train on. Raise the number of folds, or divide the group"
        )
    clean = rest.views == 0
    # The division is by groups again, so that no near-duplicate of a training image chooses.
    parts = assign(rest.labels[clean], rest.groups[clean], min(_PICKING_PARTS, count))
    choosing = of_rows(rest.groups, parts) == 0
    train = rest if settings.solved else rest.select(~choosing)
    validation = rest.select(choosing & clean)
    fit = fit_head(train, validation, classes, settings, learning_curve=False)
    right = predicted(fit.head, held) == held.labels
    return Fold(
        images=len(held),
        correct=int(right.sum()),
        trained_on=int((train.views == 0).sum()),
        epochs=len(fit.epochs),
        best_epoch=fit.best_epoch,
        seconds=round(fit.seconds, 3),
    )


def predicted(head: Any, rows: BankRows) -> Integers:
    """Return the label index that the head predicts for each row, [n].

    Args:
        head: Keras model from features to logits.
        rows: Rows of the bank.
    """
    logits = [
        np.asarray(head(block.astype(np.float32), training=False))
        for _, block in row_file.blocks(rows.features, _ROWS_AT_ONCE)
    ]
    return np.concatenate([part.argmax(axis=1) for part in logits])
