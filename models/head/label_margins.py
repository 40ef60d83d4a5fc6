"""How much more an image looks like another class than like that of its label.

A head that was fitted without the image scores it. The head is a ridge regression on one-hot
labels, and not the solved one: the sums over all rows minus those of a fold are the sums without
it, so one pass over the features is enough for the heads of all folds, and memory does not grow
with the images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from imgpipe.models.features.feature_distribution import unit
from imgpipe.models.features.rows import blocks
from imgpipe.models.machine.process import one_blas_thread
from imgpipe.models.names.arrays import Array, Floats, Integers

_DECAY: Final = 0.3  # weight decay as a multiple of the mean squared feature
_ROWS: Final = 4096  # images in float64 at once: 42 MB
#: Most features that are used, evenly drawn. Backbones that flatten their feature map have more.
#: Memory grows with the square of this number, and time with its cube.
_WIDEST: Final = 2048


def label_margins(
    features: Array, labels: Integers, folds: Integers, classes: int
) -> tuple[Floats, Integers]:
    """Score each row with a head that was fitted on the other folds.

    Only the scores of a few thousand rows are in memory at a time.

    Args:
        features: [n, d], any float type, in memory or in a file.
        labels: [n], 0..classes-1.
        folds: [n], the fold of each row; rows that belong together should be in the same fold.
        classes: Number of classes.

    Returns:
        For each row, score of the best other class minus that of the label, [n], above 0 where they
        disagree; and the class with the highest score, [n].
    """
    features = features[:, :: -(-features.shape[1] // _WIDEST)]
    width = features.shape[1] + 1
    numbers = np.unique(folds).tolist()
    gram = {number: np.zeros((width, width)) for number in numbers}
    moments = {number: np.zeros((width, classes)) for number in numbers}
    for part, number, rows in _blocks(features, folds):
        targets = np.full((len(part), classes), -1 / classes)  # one-hot labels minus their mean
        targets[np.arange(len(part)), labels[part]] += 1
        gram[number] += rows.T @ rows
        moments[number] += rows.T @ targets
    heads = _heads(gram, moments)
    margins = np.empty(len(labels), np.float32)
    best = np.empty(len(labels), np.int32)
    for part, number, rows in _blocks(features, folds):
        scores = rows @ heads[number]
        places = np.arange(len(part))
        best[part] = scores.argmax(axis=1)
        own = scores[places, labels[part]]
        scores[places, labels[part]] = -np.inf
        margins[part] = scores.max(axis=1) - own
    return margins, best


def _heads(gram: Mapping[int, Floats], moments: Mapping[int, Floats]) -> dict[int, Floats]:
    """Solve the head without each fold, [width, classes], from the sums of all folds."""
    from scipy import linalg

    whole = sum(gram.values())
    total = sum(moments.values())
    heads = {}
    for number in gram:
        products = whole - gram[number]
        products[np.diag_indices_from(products)] += _DECAY * np.trace(products) / len(products)
        with one_blas_thread():
            heads[number] = linalg.solve(
                products, total - moments[number], assume_a="pos", overwrite_a=True
            )
    return heads


def _blocks(features: Array, folds: Integers) -> Iterator[tuple[Integers, int, Floats]]:
    """Read the features in their order: positions of one fold, the fold, prepared rows.

    The rows are float64, scaled to length √d, with a column of ones.
    """
    for part, block in blocks(features, _ROWS):
        rows = unit(block).astype(np.float64)
        rows = np.column_stack([rows * np.sqrt(rows.shape[1]), np.ones(len(rows))])
        for number in np.unique(folds[part]).tolist():
            places = np.flatnonzero(folds[part] == number)
            yield part.start + places, number, rows[places]
