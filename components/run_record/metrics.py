"""Metrics computed from predictions: accuracy, log loss, calibration, confusion and intervals."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common.answer_table import AnswerTable, ClassMetrics
from imgpipe.components.common.named_images import LabelledImage
from imgpipe.models.head.calibration import confidence_error, error_by_chance
from imgpipe.models.head.certainty import AccuracyFigures

_TINY = 1e-7  # smallest probability, which keeps its logarithm finite
_MISTAKES = 48  # number of mistakes that the page shows


class ProbabilityMetrics(TypedDict):
    """How good the probabilities are."""

    loss: Annotated[float | None, "Cross-entropy of the images of a class; null if there are none."]
    ece: Annotated[float | None, "Expected calibration error of these images."]
    ece_by_chance: Annotated[
        float | None,
        "What it would be on average on this number of images if all probabilities were correct.",
    ]


class SplitMetrics(AccuracyFigures, ProbabilityMetrics):
    """Metrics of the folds, of a split, or of the images of an evaluation."""

    unseen: Annotated[
        AccuracyFigures | None,
        "The accuracy to believe, where train has images of the same families, or the run that "
        "made an evaluated model had some of the images: that on the others; otherwise null.",
    ]
    per_class: Annotated[dict[str, ClassMetrics], "Metrics by class."]


class Mistake(LabelledImage):
    """An image that is predicted wrongly."""

    predicted: Annotated[str, "The predicted class."]
    probability: Annotated[float, "Probability of the predicted class."]


def metrics(table: AnswerTable) -> SplitMetrics:
    """Compute accuracy, log loss, calibration error and the metrics of each class.

    The calibration error is that of the predicted class (Guo et al. 2017).
    """
    unseen = table.unseen()
    of_classes = table.select(~np.isnan(table.of_label))
    return {
        **table.figures(),
        "unseen": None if unseen is None else unseen.figures(),
        **_of_probabilities(of_classes),
        "per_class": table.per_class(),
    }


def _of_probabilities(table: AnswerTable) -> ProbabilityMetrics:
    if not len(table):
        return {"loss": None, "ece": None, "ece_by_chance": None}
    return {
        "loss": float(-np.log(np.maximum(table.of_label, _TINY)).mean()),
        "ece": confidence_error(table.confidence, table.right),
        "ece_by_chance": error_by_chance(table.confidence),
    }


def mistakes(table: AnswerTable) -> list[Mistake]:
    """Return the wrong answers of which the model was surest, as many as the page shows."""
    wrong = table.select(~table.right)
    return [
        {
            "path": wrong.paths[row],
            "image_hash": wrong.hashes[row].decode(),
            "label": wrong.vocabulary[wrong.labels[row]],
            "predicted": wrong.vocabulary[wrong.predicted[row]],
            "probability": float(wrong.confidence[row]),
        }
        for row in wrong.surest()[:_MISTAKES]
    ]
