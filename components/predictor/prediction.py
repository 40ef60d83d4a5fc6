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

from imgpipe.components.storage import records
from imgpipe.models import feature_names as names

if TYPE_CHECKING:
    import tensorflow as tf

Probabilities = npt.NDArray[np.floating[Any]]

MAX_COMPLETE = 1_000  # most classes for which all probabilities are stored
MOST_PROBABLE = 20  # classes that are stored above that number, besides the label's


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


def features(
    probabilities: Probabilities, label: int, baseline: Probabilities | None = None
) -> Mapping[str, Any]:
    """Create the features that store a prediction.

    Args:
        probabilities: Probabilities of all classes, float [C].
        label: Index of the image's label in the vocabulary, -1 for none.
        baseline: Probabilities of the baseline, float [C]; None without a baseline.

    Returns:
        Values by feature name, for `records.make`.
    """
    rows = {names.PROBABILITIES: probabilities}
    if baseline is not None:
        rows[names.BASELINE_PROBABILITIES] = baseline
    if len(probabilities) <= MAX_COMPLETE:
        return {name: row.tolist() for name, row in rows.items()}
    # Both models get probabilities of the same classes, so that a record needs one list of indices.
    top = [np.argpartition(row, -MOST_PROBABLE)[-MOST_PROBABLE:] for row in rows.values()]
    kept = np.unique([*np.concatenate(top), *([label] if label >= 0 else [])]).astype(np.int64)
    return {
        **{name: row[kept].tolist() for name, row in rows.items()},
        names.PROBABILITY_CLASSES: kept.tolist(),
        names.CLASS_COUNT: len(probabilities),
    }


def complete(kept: Probabilities, classes: npt.NDArray[np.int64], count: int) -> Probabilities:
    """Return the probabilities of all classes from those that a record holds.

    The rest is divided equally between the other classes. Each of them gets less than the least
    probable of the most probable classes, so that the predicted class stays the same.

    Args:
        kept: Probabilities that the record holds, float [k].
        classes: Their classes, int64 [k].
        count: Number of all classes C.

    Returns:
        Probabilities, float32 [C].
    """
    rest = max(0.0, 1.0 - float(kept.sum())) / max(1, count - len(kept))
    row = np.full(count, rest, np.float32)
    row[classes] = kept
    return row


def read(example: tf.train.Example, of: str = names.PROBABILITIES) -> Prediction:
    """Read the prediction from an Example, whether it holds all classes or only some.

    Args:
        example: The Example.
        of: Feature with the probabilities: those of the model, or of the baseline.
    """
    probabilities = np.array(records.floats(example, of))
    classes = records.integers(example, names.PROBABILITY_CLASSES)
    label = records.integer(example, names.LABEL_INDEX, -1)
    best = int(probabilities.argmax())
    position = label if not classes else classes.index(label) if label in classes else -1
    return Prediction(
        classes[best] if classes else best,
        float(probabilities[best]),
        float(probabilities[position]) if position >= 0 else 0.0,
    )
