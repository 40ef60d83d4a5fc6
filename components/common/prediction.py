"""The prediction for one image, as Predictor stores it in a tf.Example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from imgpipe.components.common.storage import records
from imgpipe.models.names import feature_names as names

if TYPE_CHECKING:
    import tensorflow as tf

#: Features that are copied to the prediction of an image, so that the report can say on which kinds
#: of images the model is weak without reading the images again.
DESCRIBED = (names.FORMAT, names.WIDTH, names.HEIGHT, names.BRIGHTNESS, names.SHARPNESS)


@dataclass(frozen=True)
class StoredPrediction:
    """The prediction for one image.

    Attributes:
        path: Path of the image in its source.
        image_hash: Content hash of the image.
        label_index: Index of its label in the vocabulary, -1 without one.
        predicted: Index of the most probable class.
        confidence: Probability of the most probable class.
        of_label: Probability of the label, or 0.0 for an image without a label.
        group: Name of the images that are not independent of this one; "" for none.
        seen_family: Whether train has images of the same group.
        described: The features `DESCRIBED` by name, as far as they are known.
    """

    path: str
    image_hash: str
    label_index: int
    predicted: int
    confidence: float
    of_label: float
    group: str = ""
    seen_family: bool = False
    described: Mapping[str, Any] = field(default_factory=dict)

    @property
    def correct(self) -> bool:
        """Whether the most probable class is the label; False for an image without a label."""
        return self.predicted == self.label_index


def read(example: tf.train.Example) -> StoredPrediction:
    """Read the prediction from an Example.

    Args:
        example: The Example.
    """
    probabilities = np.array(records.floats(example, names.PROBABILITIES))
    label = records.integer(example, names.LABEL_INDEX, -1)
    best = int(probabilities.argmax())
    return StoredPrediction(
        records.text(example, names.PATH),
        records.text(example, names.IMAGE_HASH),
        label,
        best,
        float(probabilities[best]),
        float(probabilities[label]) if label >= 0 else 0.0,
        records.text(example, names.GROUP),
        bool(records.integer(example, names.SEEN_FAMILY)),
        {name: records.first(example, name) for name in DESCRIBED},
    )
