"""k-fold cross-validation of the head on the feature bank, which the gate of a small set reads.

A validation split of forty images moves by 2.5 points with each of them. Here every image of
train and validation is judged once, by a head that never saw it, at a second or so a fold, since
the features are there already.

The images that pick a fold's weights (its own small validation) are taken from the rest, never
from those that are scored: picking on what is scored flatters.
"""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from imgpipe.models.bank import BankRows
from imgpipe.models.errors import DataRefused
from imgpipe.models.folds import Integers, assign
from imgpipe.models.row_file import gathered
from imgpipe.models.settings import ModelSettings
from imgpipe.models.training_loop import fit_head

#: One part in so many of what is not scored picks the weights.
_PICKING_PARTS: Final = 8
#: Of the logits' forward pass; only memory depends on it.
_ROWS_AT_ONCE: Final = 1024


@dataclass(frozen=True)
class Fold:
    """One fold: how many of its images the head that never saw them got right."""

    images: int
    correct: int
    trained_on: int  # images, without those that picked the weights
    epochs: int
    best_epoch: int
    seconds: float

    @property
    def accuracy(self) -> float:
        """Share of images whose label was predicted correctly."""
        return self.correct / self.images


@dataclass(frozen=True)
class CrossValidation:
    """All folds, and what they say together."""

    folds: tuple[Fold, ...]
    groups: int  # sets of images that were kept on one side

    def summary(self) -> dict[str, Any]:
        """Mean, spread and every fold, JSON-ready; `std` is of the folds' accuracies."""
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
            "seconds": round(sum(fold.seconds for fold in self.folds), 3),
            "per_fold": [
                {**dataclasses.asdict(fold), "accuracy": share}
                for fold, share in zip(self.folds, shares, strict=True)
            ],
        }


def cross_validate(
    rows: BankRows, folds: int, classes: int, settings: ModelSettings
) -> CrossValidation:
    """Trains and scores one head for each fold.

    Args:
        rows: All views of train and validation. Only the clean views are scored, and the images of
            one group are on one side.
        folds: Number of folds, at least 2.
        classes: Number of classes.
        settings: Settings of head and training, the same as the Trainer's.

    Raises:
        DataRefused: Fewer sets of images than folds, or too few to pick weights on.
    """
    settings = dataclasses.replace(settings, strategy="none")  # a fold is too small to share out
    sets = rows.groups.astype(str)
    clean = rows.views == 0
    names = np.unique(sets[clean])
    if len(names) < folds + 1:
        raise DataRefused(
            f"evaluate.cross_validate = {folds}: expected more than {folds} images, or groups of "
            f"them, to divide. Received: {len(names)}. Lower it, or add images"
        )
    fold_of = assign(rows.labels[clean], sets[clean], folds)
    fold = np.array([fold_of[name] for name in sets])
    found = [
        _fold(rows.select(fold != number), sets[fold != number], held, classes, settings)
        for number in range(folds)
        if len(held := rows.select((fold == number) & clean))
    ]
    return CrossValidation(tuple(found), len(names))


def _fold(
    rest: BankRows, sets: npt.NDArray[Any], held: BankRows, classes: int, settings: ModelSettings
) -> Fold:
    """Train on most of `rest`, pick the weights on the others, score `held`."""
    count = len(np.unique(sets))
    if count < 2:
        raise DataRefused(
            "evaluate.cross_validate: one group holds so many of the images that a fold has "
            "nothing else to train on. Raise the number of folds, or divide the group"
        )
    clean = rest.views == 0
    parts = assign(rest.labels[clean], sets[clean], min(_PICKING_PARTS, count))
    picking = np.array([parts[name] == 0 for name in sets])
    train = rest.select(~picking)
    fit = fit_head(train, rest.select(picking & clean), classes, settings)
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
    """Returns the label index [n] that the head predicts for each row."""
    index = np.arange(len(rows))
    logits = [
        head(
            gathered(rows.features, index[start : start + _ROWS_AT_ONCE]).astype(np.float32),
            training=False,
        )
        for start in range(0, len(rows), _ROWS_AT_ONCE)
    ]
    return np.concatenate([np.argmax(np.asarray(part), axis=1) for part in logits])
