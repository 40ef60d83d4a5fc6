"""Folds: a division of images into parts of equal size and class shares, for cross-validation.

Images of one group, such as the frames of one film, must be on one side of every division: a head
that was trained on one frame answers for the next one from memory. So an estimate from folds is
honest only if all images of a family, which ImageFilter finds, are in the same fold.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np

from imgpipe.models.arrays import Flags, Integers, Names

#: Number of folds by which settings are chosen, and that judge a small set.
FOLDS: Final = 5
#: With fewer independent validation images (a group of images counts once), each one changes the
#: accuracy by more than half a point. Folds over train and validation decide then, unless a setting
#: says otherwise.
FEW_IMAGES: Final = 200
#: Up to this number of images of train and validation, folds judge a solved head at no cost: those
#: that choose its penalty have all of these images.
MOST_OF_HEADS: Final = 2000
#: If the head over its folds reaches this accuracy, neither larger images are tried nor a better
#: network: the minutes would bring little, or nothing that a few hundred images could distinguish
#: from noise.
ENOUGH: Final = 0.985
#: With fewer mistakes of the head, the gain of better features or of a better network would hardly
#: be seen: the standard error of four corrections is two.
FEWEST_MISTAKES: Final = 5


def assign(
    labels: Integers,
    groups: Names,
    folds: int,
    counted: Flags | None = None,
) -> Integers:
    """Assign every group of images to a fold; classes are spread as evenly as the groups allow.

    The largest groups are assigned first, each to the fold that has the fewest images of its
    classes. Groups of equal size are ordered by a hash of their name, so that the result depends
    only on the images.

    Args:
        labels: Label index of each row, [n].
        groups: Name of the group of each row, bytes [n].
        folds: Number of folds.
        counted: Whether a row is an image by itself, and not another view of one, bool [n]; None
            for all rows.

    Returns:
        The fold of each row, [n], 0 to folds - 1.

    Examples:
        The two images of class 0 are of one group and stay together; those of class 1 are divided.

        >>> assign(np.array([0, 0, 1, 1]), np.array([b"film", b"film", b"a", b"b"]), folds=2)
        array([0, 0, 0, 1])
    """
    names, group = np.unique(groups, return_inverse=True)
    of_rows = group
    if counted is not None:
        labels = labels[counted]
        group = group[counted]
    classes, label = np.unique(labels, return_inverse=True)
    sizes = np.bincount(group, minlength=len(names))
    of_class = np.bincount(label)
    # A table of all groups and classes would be too large: most images are a group each.
    labels_of = np.split(label[np.argsort(group, kind="stable")], np.cumsum(sizes)[:-1])
    salted = [hashlib.sha256(b"fold:" + name).digest() for name in names.tolist()]
    assigned = np.zeros((folds, len(classes)))
    images = np.zeros(folds)
    fold_of = np.zeros(len(names), np.int64)
    for i in sorted(range(len(names)), key=lambda i: (-sizes[i], salted[i])):
        # How much of the group's classes each fold has already. Where folds are equal, the one with
        # the fewest images is chosen; rounding ignores differences in the last bits.
        own = labels_of[i]
        crowding = (assigned[:, own] / of_class[own]).sum(axis=1)
        fold_of[i] = np.lexsort((images, crowding.round(9)))[0]
        np.add.at(assigned[fold_of[i]], own, 1)
        images[fold_of[i]] += len(own)
    return fold_of[of_rows]
