"""What the model said of one image, and how it is stored in a prediction record.

Up to 1,000 classes a record holds the probabilities of all of them. Above that it holds those of
the most probable classes and of the label, with their places in the vocabulary, so that a record
does not grow with the number of classes.
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

MOST_WHOLE = 1_000  # classes; more are stored in part
MOST_PROBABLE = 20  # classes that a record in part holds, beside the label's


@dataclass(frozen=True)
class Prediction:
    """The answer for one image.

    Attributes:
        predicted: Place of the most probable class in the vocabulary.
        confidence: Its probability.
        of_label: Probability of the label's class; 0.0 without a label.
    """

    predicted: int
    confidence: float
    of_label: float


def features(probabilities: npt.NDArray[np.floating[Any]], label: int) -> Mapping[str, Any]:
    """Features of a prediction record.

    Args:
        probabilities: Of all classes, [C].
        label: Place of the image's own class, -1 for none.
    """
    if len(probabilities) <= MOST_WHOLE:
        return {names.PROBABILITIES: probabilities.tolist()}
    top = np.argpartition(probabilities, -MOST_PROBABLE)[-MOST_PROBABLE:]
    kept = np.union1d(top, [label] if label >= 0 else []).astype(np.int64)
    return {
        names.PROBABILITIES: probabilities[kept].tolist(),
        names.PROBABILITY_CLASSES: kept.tolist(),
    }


def read(example: tf.train.Example) -> Prediction:
    """The prediction of a record, whether it holds all classes or some."""
    probabilities = np.array(records.floats(example, names.PROBABILITIES))
    classes = records.integers(example, names.PROBABILITY_CLASSES)
    label = records.integer(example, names.LABEL_INDEX, -1)
    best = int(probabilities.argmax())
    place = label if not classes else classes.index(label) if label in classes else -1
    return Prediction(
        classes[best] if classes else best,
        float(probabilities[best]),
        float(probabilities[place]) if place >= 0 else 0.0,
    )
