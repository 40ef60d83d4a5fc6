"""Metrics computed from predictions: accuracy, log loss, calibration, confusion and intervals."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Sequence
from typing import Annotated

import numpy as np

from imgpipe.components.common.counts import AnswerTally, ClassMetrics, Counts
from imgpipe.components.common.named_images import LabelledImage
from imgpipe.components.common.prediction import StoredPrediction
from imgpipe.components.common.shares import AccuracyFigures
from imgpipe.components.image_evaluator.decision import FOLDS
from imgpipe.models.head.calibration import confidence_error, error_by_chance
from imgpipe.models.names import feature_names as names

#: What metrics are computed for, in their order: what decided, either the folds or the validation
#: split, and the test split.
MEASURED = (FOLDS, names.VALIDATION, names.TEST)

_TINY = 1e-7  # smallest probability, which keeps its logarithm finite
_MISTAKES = 48  # number of mistakes that the page shows


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


class Mistake(LabelledImage):
    """An image that is predicted wrongly."""

    predicted: Annotated[str, "The predicted class."]
    probability: Annotated[float, "Probability of the predicted class."]


class Table:
    """The predictions of the folds or of a split: 17 bytes an image, and the worst ones.

    Args:
        vocabulary: Class names in sorted order.
        rows: Labelled images, which are read once.
        counts: Their counts where the rows do not tell their families, as those of the folds;
            None to count them here.

    Attributes:
        counts: The counts by class.
        confusion: Cells of the confusion matrix that are not 0.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        rows: Iterable[StoredPrediction],
        counts: Counts | None = None,
    ) -> None:
        self._vocabulary = list(vocabulary)
        right = array("b")
        confidence = array("d")
        of_label = array("d")
        every = AnswerTally(len(vocabulary))
        unseen = AnswerTally(len(vocabulary))
        mistakes: list[StoredPrediction] = []
        for row in rows:
            every.add(row)
            if not row.seen_family:
                unseen.add(row)
            right.append(row.correct)
            confidence.append(row.confidence)
            of_label.append(row.of_label)
            if not row.correct:
                mistakes.append(row)
            if len(mistakes) > 2 * _MISTAKES:  # of millions of mistakes, few are in memory
                mistakes = _surest(mistakes)
        self._mistakes = _surest(mistakes)
        self._right = np.frombuffer(right, np.bool_)
        self._confidence = np.frombuffer(confidence, np.float64)
        self._of_label = np.frombuffer(of_label, np.float64)
        self._unseen = unseen.counts()
        self.confusion = every.confusion()
        self.counts = counts or every.counts()

    def __len__(self) -> int:
        return len(self._right)

    def ece(self) -> float:
        """Compute the expected calibration error of the predicted class (Guo et al. 2017)."""
        return confidence_error(self._confidence, self._right)

    def summary(self) -> SplitMetrics:
        """Compute accuracy, log loss, calibration error and the per-class metrics."""
        divided = self._unseen.images < len(self)
        return {
            **self.counts.figures(),
            "loss": float(-np.log(np.maximum(self._of_label, _TINY)).mean()),
            "unseen": self._unseen.figures() if divided else None,
            "ece": self.ece(),
            "ece_by_chance": error_by_chance(self._confidence),
            "per_class": {
                name: self.counts.metrics(label) for label, name in enumerate(self._vocabulary)
            },
        }

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


def _surest(mistakes: Iterable[StoredPrediction]) -> list[StoredPrediction]:
    """Return the mistakes of which the model was surest, as many as the page shows."""
    return heapq.nsmallest(_MISTAKES, mistakes, key=lambda row: (-row.confidence, row.path))
