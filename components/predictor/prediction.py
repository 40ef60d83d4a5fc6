"""The prediction for one image, and how it is stored in a tf.Example.

With up to 1,000 classes the Example holds the probabilities of all classes. With more it holds
those of the most probable classes and of the label, with their indices in the vocabulary, so that
its size does not grow with the number of classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imgpipe.components import records
from imgpipe.models import feature_names as names

if TYPE_CHECKING:
    import tensorflow as tf

MAX_COMPLETE = 1_000  # most classes for which all probabilities are stored
MOST_PROBABLE = 20  # classes that are stored otherwise, besides the label's


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


def features(probabilities: npt.NDArray[np.floating[Any]], label: int) -> Mapping[str, Any]:
    """Create the features that store a prediction.

    Args:
        probabilities: Probabilities of all classes, float [C].
        label: Index of the image's label in the vocabulary, -1 for none.

    Returns:
        Values by feature name, for `records.make`.
    """
    if len(probabilities) <= MAX_COMPLETE:
        return {names.PROBABILITIES: probabilities.tolist()}
    top = np.argpartition(probabilities, -MOST_PROBABLE)[-MOST_PROBABLE:]
    kept = np.union1d(top, [label] if label >= 0 else []).astype(np.int64)
    return {
        names.PROBABILITIES: probabilities[kept].tolist(),
        names.PROBABILITY_CLASSES: kept.tolist(),
    }


def read(example: tf.train.Example) -> Prediction:
    """Read the prediction from an Example, whether it holds all classes or only some."""
    probabilities = np.array(records.floats(example, names.PROBABILITIES))
    classes = records.integers(example, names.PROBABILITY_CLASSES)
    label = records.integer(example, names.LABEL_INDEX, -1)
    best = int(probabilities.argmax())
    position = label if not classes else classes.index(label) if label in classes else -1
    return Prediction(
        classes[best] if classes else best,
        float(probabilities[best]),
        float(probabilities[position]) if position >= 0 else 0.0,
    )
