"""Metrics computed from predictions: accuracy, log loss, calibration, confusion and intervals."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

import numpy as np
from typing_extensions import TypedDict

from imgpipe.components.common.prediction import StoredPrediction
from imgpipe.components.common.shares import AccuracyFigures, accuracy_figures
from imgpipe.components.image_evaluator.decision import FOLDS
from imgpipe.models import feature_names as names
from imgpipe.models.head.calibration import confidence_error, error_by_chance

#: What metrics are computed for, in their order: what decided, either the folds or the validation
#: split, and the test split.
MEASURED = (FOLDS, names.VALIDATION, names.TEST)
#: (label, predicted, count), with classes as indices in the vocabulary.
Cell = tuple[int, int, int]

_TINY = 1e-7  # smallest probability, which keeps its logarithm finite
_MISTAKES = 48  # number of mistakes that the page shows


class ClassMetrics(TypedDict):
    """Metrics of one class."""

    count: Annotated[int, "Number of images with this label."]
    recall: Annotated[float | None, "Share of these images that are predicted correctly."]
    precision: Annotated[float | None, "Share of the predictions of this class that are correct."]
    f1: Annotated[float, "Harmonic mean of recall and precision; 0 if one is missing."]


class SplitMetrics(AccuracyFigures):
    """Metrics of the folds, or of a split."""

    loss: Annotated[float, "Cross-entropy."]
    unseen: Annotated[
        AccuracyFigures | None,
        "The accuracy to believe, where the source's splits divide families of images: that on the "
        "images of families of which train has no image; otherwise null.",
    ]
    ece: Annotated[float, "Expected calibration error."]
    ece_by_chance: Annotated[
        float,
        "What it would be on average on this number of images if all probabilities were correct.",
    ]
    per_class: Annotated[dict[str, ClassMetrics], "Metrics by class."]


class Mistake(TypedDict):
    """An image that is predicted wrongly."""

    path: Annotated[str, "Path in the source."]
    image_hash: Annotated[str, "SHA-256 of the file."]
    label: Annotated[str, "Label of the image."]
    predicted: Annotated[str, "The predicted class."]
    probability: Annotated[float, "Probability of the predicted class."]


class Table:
    """The predictions of the folds or of a split: 32 bytes an image, and the worst ones.

    Args:
        vocabulary: Class names in sorted order.
        rows: Labelled images, which are read once.
    """

    def __init__(self, vocabulary: Sequence[str], rows: Iterable[StoredPrediction]) -> None:
        self._vocabulary = list(vocabulary)
        labels = array("q")
        predicted = array("q")
        confidence = array("d")
        of_label = array("d")
        unseen = array("b")
        groups: set[str] = set()
        single = 0

        def wrong() -> Iterator[StoredPrediction]:
            nonlocal single
            for row in rows:
                unseen.append(not row.seen_family)
                if row.group:
                    groups.add(row.group)
                else:
                    single += 1
                labels.append(row.label_index)
                predicted.append(row.predicted)
                confidence.append(row.confidence)
                of_label.append(row.of_label)
                if not row.correct:
                    yield row

        # One pass over the rows: the arrays are filled while `nsmallest` asks for the mistakes.
        self._mistakes = heapq.nsmallest(
            _MISTAKES, wrong(), key=lambda row: (-row.confidence, row.path)
        )
        self._labels = np.frombuffer(labels, np.int64)
        self._predicted = np.frombuffer(predicted, np.int64)
        self._confidence = np.frombuffer(confidence, np.float64)
        self._of_label = np.frombuffer(of_label, np.float64)
        self._unseen = np.frombuffer(unseen, np.bool_)
        self._independent = len(groups) + single

    def __len__(self) -> int:
        return len(self._labels)

    def confusion(self) -> list[Cell]:
        """Return the cells of the confusion matrix that are not 0, as (label, predicted, count)."""
        classes = len(self._vocabulary)
        cells, counts = np.unique(self._labels * classes + self._predicted, return_counts=True)
        found = zip(cells.tolist(), counts.tolist(), strict=True)
        return [(*divmod(cell, classes), count) for cell, count in found]

    def ece(self) -> float:
        """Compute the expected calibration error of the predicted class (Guo et al. 2017)."""
        return confidence_error(self._confidence, self._predicted == self._labels)

    def summary(self, independent: int = 0) -> SplitMetrics:
        """Compute accuracy, log loss, calibration error and the per-class metrics.

        Args:
            independent: Number of independent images, where the rows do not tell their groups.
        """
        size = len(self._vocabulary)
        correct = self._labels[self._predicted == self._labels]
        right, of_label, of_guess = (
            np.bincount(classes, minlength=size)
            for classes in (correct, self._labels, self._predicted)
        )
        per_class: dict[str, ClassMetrics] = {}
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
            **accuracy_figures(int(right.sum()), len(self), independent or self._independent),
            "loss": float(-np.log(np.maximum(self._of_label, _TINY)).mean()),
            "unseen": self._of_unseen_families(),
            "ece": self.ece(),
            "ece_by_chance": error_by_chance(self._confidence),
            "per_class": per_class,
        }

    def _of_unseen_families(self) -> AccuracyFigures | None:
        """Count the images of families of which train has no image; None if it has of none."""
        if self._unseen.all():
            return None
        right = (self._labels == self._predicted)[self._unseen]
        return accuracy_figures(int(right.sum()), len(right))

    def mistakes(self) -> list[Mistake]:
        """Return the wrong predictions, the most confident first."""
        return [
            {
                "path": row.path,
                "image_hash": row.image_hash,
                "label": self._vocabulary[row.label_index],
                "predicted": self._vocabulary[row.predicted],
                "probability": row.confidence,
            }
            for row in self._mistakes
        ]
