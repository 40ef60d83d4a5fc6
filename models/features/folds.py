"""Folds: a division of images into parts of equal size and class shares, for cross-validation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from imgpipe.models.features.hash_column import HashColumn

Integers = npt.NDArray[np.int64]

#: Number of folds by which settings are chosen, and that judge a small set.
FOLDS: Final = 5
#: With fewer validation images, each one changes the accuracy by more than half a point. Folds over
#: train and validation decide then, unless a setting says otherwise.
FEW_IMAGES: Final = 200
#: Folds judge the networks of the search only up to this number of images of train and validation,
#: because each network is then trained for each fold. More images have more validation images too.
_MOST_IN_FOLDS: Final = 500
#: If the head over its folds, or the best network on validation, reaches this accuracy, no better
#: network is searched for. A validation split of a few hundred images could not distinguish a
#: further gain from noise.
ENOUGH: Final = 0.98
#: Value of a number of folds or views that leaves it to the run.
AUTOMATIC: Final = -1


def judge_networks(train: int, validation: int) -> bool:
    """Return whether folds judge the networks of the search, and not the validation split.

    Args:
        train: Number of images of split train.
        validation: Number of images of split validation.
    """
    return validation < FEW_IMAGES and train + validation <= _MOST_IN_FOLDS


def assign(labels: Integers, sets: HashColumn | npt.NDArray[Any], folds: int) -> dict[str, int]:
    """Assign every set of images to a fold; classes are spread as evenly as the sets allow.

    The largest sets are assigned first, each to the fold that has the fewest images of its classes.
    Sets of equal size are ordered by a hash of their name, so that the result depends only on the
    images.

    Args:
        labels: Label indices of the images, [n].
        sets: Name of the set to which each image belongs, [n].
        folds: Number of folds.

    Returns:
        The fold of each set by its name, 0 to folds - 1.
    """
    names, index = _distinct(HashColumn.of(sets))
    classes, label = np.unique(labels, return_inverse=True)
    sizes, of_class = np.bincount(index), np.bincount(label)
    # A table of all sets and classes would be too large: images without groups are a set each.
    labels_of = np.split(label[np.argsort(index, kind="stable")], np.cumsum(sizes)[:-1])
    salted = [hashlib.sha256(b"fold:" + name).digest() for name in names]
    given, images = np.zeros((folds, len(classes))), np.zeros(folds)
    fold_of: dict[str, int] = {}
    for i in sorted(range(len(names)), key=lambda i: (-sizes[i], salted[i])):
        # How much of the set's classes each fold has already. Where folds are equal, the one with
        # the fewest images is chosen; rounding ignores differences in the last bits.
        own = labels_of[i]
        crowding = (given[:, own] / of_class[own]).sum(axis=1)
        best = int(np.lexsort((images, crowding.round(9)))[0])
        np.add.at(given[best], own, 1)
        images[best] += len(own)
        fold_of[names[i].decode()] = best
    return fold_of


def of_rows(sets: HashColumn, fold_of: Mapping[str, int]) -> Integers:
    """Return the fold of the set of each row, [n].

    Args:
        sets: Name of the set of each row, [n].
        fold_of: The fold of each set by its name, as `assign` returns it.
    """
    names, index = _distinct(sets)
    return np.array([fold_of[name.decode()] for name in names], np.int64)[index]


def _distinct(sets: HashColumn) -> tuple[list[bytes], npt.NDArray[np.intp]]:
    """Return the different names, since those of all rows take much memory, and their rows [n]."""
    used, index = np.unique(sets.numbers, return_inverse=True)
    return sets.names(used).tolist(), index
