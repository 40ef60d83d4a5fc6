"""The head of a network as plain arrays, which classifies images from their stored features.

The feature bank holds the features of every training image. With the stored head, the predictions
for these images need no forward pass of the whole network.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from imgpipe.models import feature_names as names
from imgpipe.models.errors import ResourceError
from imgpipe.models.files.array_archive import DAMAGED
from imgpipe.models.head.logistic_regression import Linear
from imgpipe.models.layer_names import HEAD
from imgpipe.models.network.classifier import Classifier

if TYPE_CHECKING:
    import keras

HEAD_FILE: Final = "head.npz"

#: The features of the bank may have a lower precision than those of the network. The answers count
#: as equal if the probabilities differ by at most this value on average, and if the labels differ
#: only where the network finds two classes about equally likely.
_MEAN_DIFFERENCE: Final = 0.01
_AS_LIKELY: Final = 0.1

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class StoredHead:
    """A linear head with the calibration of its network.

    Attributes:
        linear: Classifier of stored features, whose logits are already divided by the temperature.
        vocabulary: Class names in label order.
        unknown_below: An image is "unknown" when its highest probability is below this value.
    """

    linear: Linear
    vocabulary: tuple[str, ...]
    unknown_below: float

    @classmethod
    def of(cls, head: keras.Model, classifier: Classifier) -> StoredHead | None:
        """Return the head of a network, or None if it is not linear.

        Args:
            head: Keras model from features to logits.
            classifier: The network with this head.
        """
        if len([layer for layer in head.layers if layer.weights]) != 1:
            return None
        kernel, bias = head.get_layer(HEAD).get_weights()
        if kernel.shape[1] == 1:  # one unit z stands for the logits [0, z]
            kernel, bias = np.pad(kernel, [(0, 0), (1, 0)]), np.pad(bias, (1, 0))
        linear = Linear(kernel / classifier.temperature, bias / classifier.temperature)
        return cls(linear, classifier.vocabulary, classifier.unknown_below)

    def save(self, folder: Path) -> None:
        """Write `HEAD_FILE` into a folder.

        Args:
            folder: An existing folder.
        """
        with (folder / HEAD_FILE).open("wb") as file:
            np.savez(
                file,
                kernel=self.linear.kernel,
                bias=self.linear.bias,
                vocabulary=np.array(self.vocabulary),
                unknown_below=self.unknown_below,
            )

    def probabilities(self, features: npt.NDArray[Any]) -> Floats:
        """Return the probabilities of images, float32 [N, C].

        Args:
            features: Stored features of the images, [N, D].
        """
        return np.asarray(np.exp(self.linear.log_probabilities(features)))

    def label(self, probabilities: Floats) -> str:
        """Return the label that is served for an image.

        Args:
            probabilities: Probabilities of the image, float32 [C].
        """
        if probabilities.max() < self.unknown_below:
            return names.UNKNOWN
        return self.vocabulary[int(probabilities.argmax())]

    def agrees(self, features: npt.NDArray[Any], expected: Floats) -> bool:
        """Return whether the head gives the same answers as the network for some images.

        The label may differ for an image for which the network finds two classes about equally
        likely.

        Args:
            features: Stored features of the images, [N, D].
            expected: The network's probabilities for the same images, float32 [N, C].
        """
        if not len(features):  # nothing was compared
            return False
        received = self.probabilities(features)
        two_best = np.sort(expected, axis=1)[:, -2:]
        clear = two_best[:, 1] - two_best[:, 0] > _AS_LIKELY
        same = received.argmax(axis=1) == expected.argmax(axis=1)
        difference = float(np.abs(received - expected).mean())
        return bool(same[clear].all()) and difference < _MEAN_DIFFERENCE


def read(uri: str) -> StoredHead | None:
    """Read the head from the folder of a training.

    Args:
        uri: URI of the artifact ModelRun.

    Returns:
        The head; None when the training stored none.

    Raises:
        ResourceError: The file is damaged.
    """
    import tensorflow as tf

    path = f"{uri}/{HEAD_FILE}"
    if not tf.io.gfile.exists(path):
        return None
    try:
        with tf.io.gfile.GFile(path, "rb") as file:  # whose own seek fails in TensorFlow's way
            content = io.BytesIO(file.read())
        with np.load(content, allow_pickle=False) as arrays:
            return _checked(arrays)
    except DAMAGED as error:
        raise ResourceError(
            f"the head in {path} cannot be read ({type(error).__name__}: {error}). Run the "
            "pipeline again with --from ImageTrainer"
        ) from error


def _checked(arrays: Any) -> StoredHead:
    """Return the head of an opened file; arrays that do not fit together are a ValueError."""
    kernel, bias = arrays["kernel"], arrays["bias"]
    vocabulary = tuple(map(str, arrays["vocabulary"].tolist()))
    classes = len(vocabulary)
    if kernel.shape[1:] != (classes,) or bias.shape != (classes,):
        raise ValueError(
            f"expected weights of {classes} classes, received shapes {kernel.shape}, {bias.shape}"
        )
    if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
        raise ValueError("expected finite weights")
    return StoredHead(Linear(kernel, bias), vocabulary, float(arrays["unknown_below"]))
