"""Figures computed from predictions: accuracy, log loss, calibration, confusion, intervals."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgpipe.models.calibration import calibration_error

_TINY = 1e-7  # keeps the log finite
_MISTAKES = 24  # shown on the page


def wilson(correct: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson score interval of a share (Wilson 1927); (0, 1) when nothing was counted."""
    if count == 0:
        return 0.0, 1.0
    share = correct / count
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


@dataclass(frozen=True)
class Row:
    """One prediction."""

    path: str
    image_hash: str
    label_index: int
    probabilities: tuple[float, ...]


class Table:
    """The predictions of one split."""

    def __init__(self, vocabulary: Sequence[str], rows: Sequence[Row]) -> None:
        self._vocabulary = list(vocabulary)
        self._rows = list(rows)
        self._probabilities = np.asarray([row.probabilities for row in rows], np.float64)
        self._labels = np.asarray([row.label_index for row in rows], np.int64)
        self._predicted = self._probabilities.argmax(axis=1)

    @functools.cached_property
    def _confusion(self) -> np.ndarray:
        size = len(self._vocabulary)
        matrix = np.zeros((size, size), np.int64)
        np.add.at(matrix, (self._labels, self._predicted), 1)
        return matrix

    def confusion(self) -> list[list[int]]:
        """Counts ``[label][predicted]``."""
        return self._confusion.tolist()

    def ece(self) -> float:
        """Expected calibration error of the top class over equal-width bins (Guo et al. 2017)."""
        return calibration_error(self._probabilities, self._labels)

    def summary(self) -> dict[str, Any]:
        """Accuracy, log loss, calibration error and the per-class table."""
        matrix = self._confusion
        right = np.diag(matrix)
        of_label, of_guess = matrix.sum(axis=1), matrix.sum(axis=0)
        chosen = self._probabilities[np.arange(len(self._labels)), self._labels]
        per_class = {}
        for i, name in enumerate(self._vocabulary):
            recall = right[i] / of_label[i] if of_label[i] else None
            precision = right[i] / of_guess[i] if of_guess[i] else None
            both = (recall or 0) + (precision or 0)
            per_class[name] = {
                "count": int(of_label[i]),
                "recall": None if recall is None else float(recall),
                "precision": None if precision is None else float(precision),
                "f1": float(2 * (recall or 0) * (precision or 0) / both) if both else 0.0,
            }
        return {
            "count": len(self._rows),
            "correct": int(right.sum()),
            "accuracy": float(right.sum() / len(self._rows)),
            "loss": float(-np.log(np.maximum(chosen, _TINY)).mean()),
            "ece": self.ece(),
            "per_class": per_class,
        }

    def most_confused(self) -> tuple[str, str, int] | None:
        """(label, what it was taken for, how often) of the largest off-diagonal count."""
        return most_confused(self._vocabulary, self.confusion())

    def mistakes(self) -> list[dict[str, Any]]:
        """Wrong predictions, the most confident first."""
        wrong = [i for i in range(len(self._rows)) if self._predicted[i] != self._labels[i]]
        wrong.sort(key=lambda i: (-self._probabilities[i].max(), self._rows[i].path))
        return [
            {
                "path": self._rows[i].path,
                "image_hash": self._rows[i].image_hash,
                "label": self._vocabulary[self._labels[i]],
                "predicted": self._vocabulary[self._predicted[i]],
                "probability": float(self._probabilities[i].max()),
            }
            for i in wrong[:_MISTAKES]
        ]


def most_confused(
    vocabulary: Sequence[str], confusion: Sequence[Sequence[int]]
) -> tuple[str, str, int] | None:
    """(label, taken for, count) of the largest off-diagonal count; None without mistakes."""
    matrix = np.asarray(confusion).copy()
    np.fill_diagonal(matrix, 0)
    if not matrix.any():
        return None
    i, j = np.unravel_index(int(matrix.argmax()), matrix.shape)
    return vocabulary[int(i)], vocabulary[int(j)], int(matrix[i, j])
