"""The prediction for one image, as Predictor stores it in a tf.Example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imgpipe.components.storage import records
from imgpipe.models import feature_names as names

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image.

    Attributes:
        predicted: Index of the most probable class in the vocabulary.
        confidence: Probability of the most probable class.
        of_label: Probability of the label, or 0.0 for an image without a label.
    """

    predicted: int
    confidence: float
    of_label: float


def read(example: tf.train.Example, of: str = names.PROBABILITIES) -> Prediction:
    """Read the prediction from an Example.

    Args:
        example: The Example.
        of: Feature with the probabilities: those of the model, or of the baseline.
    """
    probabilities = np.array(records.floats(example, of))
    label = records.integer(example, names.LABEL_INDEX, -1)
    best = int(probabilities.argmax())
    of_label = float(probabilities[label]) if label >= 0 else 0.0
    return Prediction(best, float(probabilities[best]), of_label)
