"""The classifier as Keras models: a head to train on the bank, and the whole network to serve.

Both are built from the same `head` function, so weights trained on stored features fit the
network that sees pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from models import backbones, preprocess
from models.settings import ModelSettings, check_vocabulary

if TYPE_CHECKING:
    import keras

FEATURES: Final = "features"
LOGITS: Final = "logits"
PROBABILITIES: Final = "probabilities"

_IMAGES_AT_ONCE: Final = 32


@dataclass(frozen=True)
class Classifier:
    """A trained network and the names of its classes; float32 throughout.

    `network` maps pixels [N, S, S, 3] in 0..255 to {features [N, D], logits [N, C],
    probabilities [N, C]}. `trunk` and `tail` are its two halves, cut at the feature map
    [N, h, w, D]; all three share their layers.
    """

    network: keras.Model
    trunk: keras.Model
    tail: keras.Model
    vocabulary: tuple[str, ...]
    image_size: int

    def probabilities(self, images: Sequence[bytes]) -> npt.NDArray[np.float32]:
        """[N, C] of encoded images, computed by the Keras model in memory."""
        import tensorflow as tf

        rows = [np.empty((0, len(self.vocabulary)), np.float32)]
        for start in range(0, len(images), _IMAGES_AT_ONCE):
            batch = tf.constant(list(images[start : start + _IMAGES_AT_ONCE]))
            pixels = preprocess.batch_decode(batch, self.image_size)
            rows.append(self.network(pixels, training=False)[PROBABILITIES].numpy())
        return np.concatenate(rows)


def head(features: keras.KerasTensor, classes: int, settings: ModelSettings) -> keras.KerasTensor:
    """Logits [N, C] from features [N, D]: dropout and one dense layer, a hidden one if wanted.

    The single unit z of a binary head becomes the logits [0, z]: their softmax is
    [1 - sigmoid(z), sigmoid(z)], so loss, metrics and signatures are the same for any C.
    """
    from keras import layers, ops

    x = layers.Dropout(settings.dropout, dtype="float32", name="classifier_dropout")(features)
    if settings.hidden_units:
        hidden = layers.Dense(
            settings.hidden_units, activation="relu", dtype="float32", name="classifier_hidden"
        )
        x = layers.Dropout(settings.dropout, dtype="float32", name="classifier_hidden_dropout")(
            hidden(x)
        )
    if not settings.one_unit(classes):
        return layers.Dense(classes, dtype="float32", name="classifier")(x)
    return ops.pad(layers.Dense(1, dtype="float32", name="classifier")(x), [[0, 0], [1, 0]])


def build_head(dim: int, classes: int, settings: ModelSettings) -> keras.Model:
    """The trainable part alone: features [N, dim] to logits [N, C]."""
    import keras

    features = keras.Input((dim,), dtype="float32", name=FEATURES)
    return keras.Model(features, head(features, classes, settings), name="head")


def build_classifier(
    trained: keras.Model, vocabulary: Sequence[str], settings: ModelSettings
) -> Classifier:
    """The whole network with the weights of a head trained by itself.

    Args:
        trained: As `build_head` makes it, for the same settings and number of classes.
        vocabulary: Class names in label order.
        settings: Name the backbone and the image size.
    """
    import keras

    names = check_vocabulary(vocabulary)
    backbone = backbones.get(settings.backbone)
    size = settings.image_size or backbone.image_size
    pixels = keras.Input((size, size, 3), dtype="float32", name="pixels")
    feature_map = backbone.build(pixels)
    pool = keras.layers.GlobalAveragePooling2D(dtype="float32", name=FEATURES)
    softmax = keras.layers.Softmax(dtype="float32", name=PROBABILITIES)
    features = pool(feature_map)
    logits = head(features, len(names), settings)
    outputs: dict[str, Any] = {
        FEATURES: features,
        LOGITS: logits,
        PROBABILITIES: softmax(logits),
    }
    network = keras.Model(pixels, outputs, name=settings.name)
    for layer in trained.layers:
        if layer.weights:
            network.get_layer(layer.name).set_weights(layer.get_weights())
    return Classifier(
        network,
        keras.Model(pixels, feature_map),
        keras.Model(feature_map, outputs),
        names,
        size,
    )
