"""The head of a network as plain arrays, which answers for images whose features are stored.

The feature bank holds the features of every training image already. With the head beside it, the
predictions for these images need no forward pass of the whole network.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from imgpipe.models import feature_names as names
from imgpipe.models.classifier import HEAD, Classifier
from imgpipe.models.logistic_regression import Linear

if TYPE_CHECKING:
    import keras

HEAD_FILE: Final = "head.npz"

#: The bank may hold features of lower precision than the network's. Its answers count as the same
#: if probabilities differ by no more than this on average, and labels only where two are as likely.
_MEAN_DIFFERENCE: Final = 0.01
_AS_LIKELY: Final = 0.1

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class StoredHead:
    """A linear head with the calibration of its network.

    Attributes:
        linear: Logits divided by the temperature, of features as they are stored.
        vocabulary: Class names in label order.
        unknown_below: An image is "unknown" when its highest probability is below this.
    """

    linear: Linear
    vocabulary: tuple[str, ...]
    unknown_below: float

    @classmethod
    def of(cls, head: keras.Model, classifier: Classifier) -> StoredHead | None:
        """The head of a network, None if it is not linear.

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
        """Writes `HEAD_FILE` into a folder."""
        with (folder / HEAD_FILE).open("wb") as file:
            np.savez(
                file,
                kernel=self.linear.kernel,
                bias=self.linear.bias,
                vocabulary=np.array(self.vocabulary),
                unknown_below=self.unknown_below,
            )

    def probabilities(self, features: npt.NDArray[Any]) -> Floats:
        """Returns probabilities [N, C] of features [N, D]."""
        return np.asarray(np.exp(self.linear.log_probabilities(features)))

    def label(self, probabilities: Floats) -> str:
        """Returns the label that is served for probabilities [C]."""
        if probabilities.max() < self.unknown_below:
            return names.UNKNOWN
        return self.vocabulary[int(probabilities.argmax())]

    def agrees(self, features: npt.NDArray[Any], expected: Floats) -> bool:
        """Whether the answers for features [N, D] are the network's, [N, C], for the same images.

        Images for which the network finds two classes nearly as likely may get either label.
        """
        if not len(features):
            return False
        found = self.probabilities(features)
        best = np.sort(expected, axis=1)[:, -2:]
        clear = best[:, 1] - best[:, 0] > _AS_LIKELY
        same = found.argmax(axis=1) == expected.argmax(axis=1)
        return bool(same[clear].all()) and float(np.abs(found - expected).mean()) < _MEAN_DIFFERENCE


def read(uri: str) -> StoredHead | None:
    """Reads the head from the folder of a training, None if it has none.

    Args:
        uri: URI of the artifact ModelRun.
    """
    import tensorflow as tf

    path = f"{uri}/{HEAD_FILE}"
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        return StoredHead(
            Linear(arrays["kernel"], arrays["bias"]),
            tuple(arrays["vocabulary"].tolist()),
            float(arrays["unknown_below"]),
        )
