"""Folds: division of images into parts of equal size and class shares, for cross-validation."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

#: Number of folds by which settings are chosen.
FOLDS: Final = 5


def assign(labels: Integers, sets: npt.NDArray[Any], folds: int) -> dict[str, int]:
    """Fold of every set of images, 0 to folds - 1; classes are spread as evenly as sets allow.

    The largest sets go first, each to the fold that has least of its classes; equal ones in the
    order of a hash of their name, so that the outcome depends on nothing but the images.

    Args:
        labels: Labels of the clean views, [n].
        sets: Name of the set that each belongs to, [n].
        folds: Number of folds.
    """
    names, index = np.unique(sets, return_inverse=True)
    classes, label = np.unique(labels, return_inverse=True)
    counts = np.zeros((len(names), len(classes)))
    np.add.at(counts, (index, label), 1)
    sizes, of_class = counts.sum(axis=1), counts.sum(axis=0)
    salted = [hashlib.sha256(f"fold:{name}".encode()).digest() for name in names]
    given = np.zeros((folds, len(classes)))
    fold_of: dict[str, int] = {}
    for i in sorted(range(len(names)), key=lambda i: (-sizes[i], salted[i])):
        crowding = given @ (counts[i] / of_class)
        best = int(np.lexsort((given.sum(axis=1), crowding.round(9)))[0])
        given[best] += counts[i]
        fold_of[str(names[i])] = best
    return fold_of
