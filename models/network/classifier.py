"""The classifier as Keras models: the whole network, and the parts of it that are trained alone.

The same functions build all of them, with the same layer names. Therefore weights that were trained
on stored features or activations fit the network that takes pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from imgpipe.models import model_names, preprocess
from imgpipe.models.model_names import FEATURES, HEAD, LOGITS, PROBABILITIES
from imgpipe.models.settings import ModelSettings, check_vocabulary

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

_IMAGES_AT_ONCE: Final = 32  # as in `extractor.BATCH_VIEWS`; larger batches are not faster


@dataclass(frozen=True)
class Classifier:
    """A trained network and the names of its classes. All values are float32.

    Attributes:
        network: Model from pixels [N, S, S, 3], 0..255, to {features [N, D], logits [N, C],
            probabilities [N, C]}. The probabilities are the softmax of logits / temperature.
        trunk: The part of the network from pixels to the feature map [N, h, w, C]. It shares its
            layers with the network.
        tail: The part from the feature map to the three outputs. It shares its layers, too.
        vocabulary: Class names in label order.
        image_size: Side S of the input in pixels.
        temperature: Number by which the logits are divided.
        unknown_below: An image whose highest probability is below this value is served the label
            "unknown".
    """

    network: keras.Model
    trunk: keras.Model
    tail: keras.Model
    vocabulary: tuple[str, ...]
    image_size: int
    temperature: float = 1.0
    unknown_below: float = 0.0

    @functools.cached_property
    def feature_maps(self) -> tf.types.experimental.ConcreteFunction:
        """The trunk as a TensorFlow graph, from pixels [N, S, S, 3] to feature maps [N, h, w, C].

        Every graph that calls it shares this one. Tracing Keras' two hundred layers takes half a
        second, and a SavedModel would hold each trace.
        """
        import tensorflow as tf

        size = self.image_size
        function = tf.function(
            lambda pixels: self.trunk(pixels, training=False), autograph=False, jit_compile=False
        )
        return function.get_concrete_function(tf.TensorSpec([None, size, size, 3], tf.float32))

    @functools.cached_property
    def _outputs(self) -> tf.types.experimental.GenericFunction:
        """The network from encoded images [N] to the outputs of `network`, as one graph."""
        import tensorflow as tf

        def outputs(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            pixels = preprocess.batch_decode(image_bytes, self.image_size)
            return self.tail(self.feature_maps(pixels), training=False)

        images = tf.TensorSpec([None], tf.string)
        return tf.function(outputs, input_signature=[images], autograph=False, jit_compile=False)

    def probabilities(self, images: Sequence[bytes]) -> npt.NDArray[np.float32]:
        """Classifies encoded images with the Keras model in memory: float32 [N, C]."""
        rows = [outputs[PROBABILITIES].numpy() for outputs in self.outputs(images)]
        return np.concatenate([np.empty((0, len(self.vocabulary)), np.float32), *rows])

    def outputs(self, images: Sequence[bytes]) -> Iterator[dict[str, Any]]:
        """Yield features [n, D], logits [n, C] and probabilities [n, C] of up to 32 images each."""
        import tensorflow as tf

        for start in range(0, len(images), _IMAGES_AT_ONCE):
            yield self._outputs(tf.constant(list(images[start : start + _IMAGES_AT_ONCE])))


class Parts(NamedTuple):
    """The tensors of a whole network, from which models of its parts are made."""

    pixels: keras.KerasTensor  # input, [N, S, S, 3]
    feature_map: keras.KerasTensor  # output of the backbone, [N, h, w, C]
    features: keras.KerasTensor  # pooled feature map, [N, D]
    logits: keras.KerasTensor  # output of the head, [N, C]


def head(features: keras.KerasTensor, classes: int, settings: ModelSettings) -> keras.KerasTensor:
    """Add the head: dropout, a hidden layer if the settings have one, and a dense layer.

    The one unit z of a binary head becomes the logits [0, z]. Their softmax is [1 - sigmoid(z),
    sigmoid(z)], so loss, metrics and signatures are the same for any number of classes.

    Args:
        features: Features, symbolic [N, D].
        classes: Number C of classes, and of the logits [N, C] that are returned.
        settings: Settings of the head.
    """
    from keras import layers, ops

    x, seeded = features, {"seed": settings.seed, "dtype": "float32"}
    if settings.hidden_units:
        share, name = settings.feature_dropout, model_names.FEATURE_DROPOUT
        x = layers.Dropout(share, name=name, **seeded)(x)
        units, name = settings.hidden_units, model_names.HIDDEN
        x = layers.Dense(units, activation="relu", dtype="float32", name=name)(x)
    x = layers.Dropout(settings.dropout, name=model_names.DROPOUT, **seeded)(x)
    # float32 with every policy, because 16 bits are too few for the softmax and its loss.
    if not settings.one_unit(classes):
        return layers.Dense(classes, dtype="float32", name=HEAD)(x)
    return ops.pad(layers.Dense(1, dtype="float32", name=HEAD)(x), [[0, 0], [1, 0]])


def pooled(feature_map: keras.KerasTensor, pooling: str) -> keras.KerasTensor:
    """Pools a feature map [N, h, w, C] to features [N, D]: "average", "max" or "flatten"."""
    from keras import layers

    kinds = {
        "average": layers.GlobalAveragePooling2D,
        "max": layers.GlobalMaxPooling2D,
        "flatten": layers.Flatten,
    }
    return kinds[pooling](dtype="float32", name=FEATURES)(feature_map)


def build_parts(classes: int, settings: ModelSettings) -> Parts:
    """Build the whole network of the settings, with newly initialised weights in its head."""
    import keras

    backbone = settings.backbone_spec()
    size = settings.size
    pixels = keras.Input((size, size, 3), dtype="float32", name="pixels")
    feature_map = backbone.build(pixels, trainable=not settings.frozen)
    features = pooled(feature_map, settings.pooling)
    return Parts(pixels, feature_map, features, head(features, classes, settings))


def build_head(dim: int, classes: int, settings: ModelSettings) -> keras.Model:
    """Build the head alone, from features [N, dim] to logits [N, C]."""
    import keras

    features = keras.Input((dim,), dtype="float32", name=FEATURES)
    return keras.Model(features, head(features, classes, settings), name="head")


def build_classifier(
    trained: keras.Model | None,
    vocabulary: Sequence[str],
    settings: ModelSettings,
    temperature: float = 1.0,
    unknown_below: float = 0.0,
) -> Classifier:
    """Build the whole network with the weights of a part that was trained alone.

    Args:
        trained: A head, the layers above a cut, or all layers, built for the same settings and
            number of classes. Layers are matched by name. None keeps the initial weights.
        vocabulary: Class names in label order.
        settings: Settings that name the backbone, its weights and the image size.
        temperature: See `Classifier`.
        unknown_below: See `Classifier`.
    """
    import keras

    names = check_vocabulary(vocabulary)
    parts = build_parts(len(names), settings)
    # The temperature is a constant of the graph, so that every server applies it.
    softmax = keras.layers.Softmax(dtype="float32", name=PROBABILITIES)
    outputs: dict[str, Any] = {
        FEATURES: parts.features,
        LOGITS: parts.logits,
        PROBABILITIES: softmax(parts.logits / temperature),
    }
    network = keras.Model(parts.pixels, outputs, name=settings.name)
    if trained is not None:
        copy_weights(trained, network)
    return Classifier(
        network,
        keras.Model(parts.pixels, parts.feature_map),
        keras.Model(parts.feature_map, outputs),
        names,
        int(parts.pixels.shape[1]),
        temperature,
        unknown_below,
    )


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copy the weights of every layer to the layer of the same name in another model."""
    for layer in source.layers:
        if layer.weights:  # others, such as an addition, may have another name in each build
            target.get_layer(layer.name).set_weights(layer.get_weights())
