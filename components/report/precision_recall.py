"""Precision and recall of each class at every threshold of its probability.

The images pass one by one, and only counts are kept: the probabilities of each class are counted in
bins that are narrow near 0 and 1, where most of them are. Images in one bin count as tied, which
changes an average precision by 0.02 at most where a class has few images, and by 0.001 with many.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from imgpipe.components.report.metrics import Row

#: Number of classes whose curves are drawn, which are those with the lowest average precision.
DRAWN = 8
#: Bins for each unit of the logit, and where it is cut. The largest probability below 1 of type
#: float32 has the logit 16.6; a confident model gives many images probabilities close to it.
_BINS_A_UNIT, _LARGEST = 40, 30.0
_BINS = int(2 * _LARGEST * _BINS_A_UNIT) + 1
_MOST_CLASSES = 1_000  # more classes would take too much memory
_POINTS = 80  # largest number of points of a curve; more are not visible on the page
_TINY = 1e-14  # keeps the logits of 0 and 1 finite, beyond the cut

Counts = npt.NDArray[np.int32]


class Curves:
    """Counts of images by class and probability, for one split.

    Args:
        vocabulary: Class names in sorted order.
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self._vocabulary = list(vocabulary)
        self._complete = len(self._vocabulary) <= _MOST_CLASSES
        self._all = np.zeros((len(self._vocabulary) if self._complete else 0, _BINS), np.int32)
        self._right = np.zeros_like(self._all)

    def counted(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Pass rows through and count them."""
        classes = np.arange(len(self._vocabulary))
        for row in rows:
            scores = row.probabilities
            if scores is None or len(scores) != len(self._all):
                self._complete = False
            else:
                bins = _bins(np.asarray(scores, np.float64))
                self._all[classes, bins] += 1
                self._right[row.label_index, bins[row.label_index]] += 1
            yield row

    def summary(self) -> dict[str, Any] | None:
        """Return the average precision of each class, and some curves.

        Returns:
            ``{"classes": [{"name", "count", "average_precision"}], "curves": [{"name", "points":
            [[recall, precision], …]}]}``. None if no image was counted, or if the predictions do
            not hold the probabilities of all classes.
        """
        if not self._complete or not self._all.any():
            return None
        found = [_curve(every, right) for every, right in zip(self._all, self._right, strict=True)]
        classes = [
            {"name": name, "count": int(right.sum()), "average_precision": _average(curve)}
            for name, right, curve in zip(self._vocabulary, self._right, found, strict=True)
        ]
        known = [i for i, one in enumerate(classes) if one["average_precision"] is not None]
        worst = sorted(known, key=lambda i: (classes[i]["average_precision"], i))[:DRAWN]
        curves = [
            {"name": self._vocabulary[i], "points": _thinned(found[i])} for i in sorted(worst)
        ]
        return {"classes": classes, "curves": curves}


def _bins(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the bin of each probability, by its logit."""
    safe = np.clip(scores, _TINY, 1 - _TINY)
    logits = np.clip(np.log(safe / (1 - safe)), -_LARGEST, _LARGEST)
    return np.rint((logits + _LARGEST) * _BINS_A_UNIT).astype(np.int64)


def _curve(every: Counts, right: Counts) -> npt.NDArray[np.float64]:
    """Return [n, 2] of recall and precision, from the highest threshold to the lowest.

    `every` has the number of images in each bin, `right` of those that have the label of the class.
    """
    total = right.sum()
    if not total:
        return np.empty((0, 2))
    predicted, correct = np.cumsum(every[::-1]), np.cumsum(right[::-1])
    seen = every[::-1] > 0
    return np.stack([correct[seen] / total, correct[seen] / predicted[seen]], axis=1)


def _average(curve: npt.NDArray[np.float64]) -> float | None:
    """Return the average precision: the sum of precision times the gain in recall."""
    if not len(curve):
        return None
    gains = np.diff(curve[:, 0], prepend=0.0)
    return float((gains * curve[:, 1]).sum())


def _thinned(curve: npt.NDArray[np.float64]) -> list[list[float]]:
    """Return some points of a curve, with the first one drawn at recall 0."""
    keep = np.unique(np.linspace(0, len(curve) - 1, min(_POINTS, len(curve))).astype(int))
    points = [[round(float(x), 4), round(float(y), 4)] for x, y in curve[keep]]
    return [[0.0, points[0][1]], *points]
