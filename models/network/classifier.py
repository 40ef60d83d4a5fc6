"""The classifier as Keras models: the whole network, and the parts of it that are trained alone.

The same functions build all of them, with the same layer names. Therefore weights that were trained
on stored features or activations fit the network that takes pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imgpipe.models import names, preprocess
from imgpipe.models.arrays import Floats
from imgpipe.models.backbones import layer_graph
from imgpipe.models.backbones.architectures import hub_presets
from imgpipe.models.errors import ConfigError
from imgpipe.models.machine.process import images_at_once
from imgpipe.models.network import covariance_pooling
from imgpipe.models.settings.model import (
    AUTO,
    AVERAGE,
    CLASS_TOKEN,
    COVARIANCE,
    FLATTEN,
    TOKENS,
    check_vocabulary,
)
from imgpipe.models.settings.settings import Settings

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@dataclass(frozen=True)
class ClassifierNetwork:
    """A trained network and the names of its classes. All values are float32.

    Attributes:
        network: Model from pixels [N, S, S, 3], 0..255, to {features [N, D], logits [N, C],
            probabilities [N, C]}. The probabilities are the softmax of logits / temperature.
        trunk: The part of the network from pixels to a list of the feature maps [N, h, w, C] that
            the head reads, the last one first. If it reads a class token, these are the map of the
            patches below the last block, and the other tokens [N, T, C] there. It shares its layers
            with the network.
        tail: The part from these maps to the three outputs. It shares its layers, too.
        vocabulary: Class names in label order.
        image_size: Side S of the input in pixels.
        temperature: Number by which the logits are divided.
    """

    network: keras.Model
    trunk: keras.Model
    tail: keras.Model
    vocabulary: tuple[str, ...]
    image_size: int
    temperature: float = 1.0

    @functools.cached_property
    def feature_maps(self) -> tf.types.experimental.ConcreteFunction:
        """The trunk as a TensorFlow graph, from pixels [N, S, S, 3] to its list of feature maps.

        Every graph that calls it shares this one. Tracing Keras' two hundred layers takes half a
        second, and a SavedModel would hold each trace.
        """
        import tensorflow as tf

        size = self.image_size
        function = tf.function(
            lambda pixels: tf.nest.flatten(self.trunk(pixels, training=False)),  # one is no list
            autograph=False,
            jit_compile=False,
        )
        return function.get_concrete_function(tf.TensorSpec([None, size, size, 3], tf.float32))

    def answers(self, maps: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return the outputs of the network for feature maps."""
        return self.tail(maps if len(maps) > 1 else maps[0], training=False)

    @functools.cached_property
    def _outputs(self) -> tf.types.experimental.GenericFunction:
        """The network from encoded images [N] to the outputs of `network`, as one graph."""
        import tensorflow as tf

        def outputs(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            pixels = preprocess.batch_decode(image_bytes, self.image_size)
            return self.answers(self.feature_maps(pixels))

        images = tf.TensorSpec([None], tf.string)
        return tf.function(outputs, input_signature=[images], autograph=False, jit_compile=False)

    def probabilities(self, images: Sequence[bytes]) -> Floats:
        """Classifies encoded images with the Keras model in memory: float32 [N, C]."""
        rows = [outputs[names.PROBABILITIES].numpy() for outputs in self.outputs(images)]
        return np.concatenate([np.empty((0, len(self.vocabulary)), np.float32), *rows])

    def outputs(self, images: Sequence[bytes]) -> Iterator[dict[str, Any]]:
        """Yield features [n, D], logits [n, C] and probabilities [n, C] of a few images each."""
        import tensorflow as tf

        count = images_at_once()
        for start in range(0, len(images), count):
            yield self._outputs(tf.constant(list(images[start : start + count])))


def add_head(features: keras.KerasTensor, classes: int, settings: Settings) -> keras.KerasTensor:
    """Add the head: dropout, a hidden layer if the settings have one, and a dense layer.

    The one unit z of a binary head becomes the logits [0, z]. Their softmax is [1 - sigmoid(z),
    sigmoid(z)], so loss, metrics and signatures are the same for any number of classes.

    Args:
        features: Features, symbolic [N, D].
        classes: Number C of classes, and of the logits [N, C] that are returned.
        settings: Settings of the head.
    """
    from keras import layers, ops

    x = features
    seeded = {"seed": settings.train.seed, "dtype": "float32"}
    if settings.course.hidden_units:
        name = names.FEATURE_DROPOUT
        x = layers.Dropout(settings.course.feature_dropout, name=name, **seeded)(x)
        name = names.HIDDEN
        units = settings.course.hidden_units
        x = layers.Dense(units, activation="relu", dtype="float32", name=name)(x)
    x = layers.Dropout(settings.course.dropout, name=names.DROPOUT, **seeded)(x)
    # float32 with every policy, because 16 bits are too few for the softmax and its loss.
    if not settings.one_unit(classes):
        return layers.Dense(classes, dtype="float32", name=names.HEAD)(x)
    return ops.pad(layers.Dense(1, dtype="float32", name=names.HEAD)(x), [[0, 0], [1, 0]])


def read(maps: Sequence[keras.KerasTensor], kind: str, axes: Sequence[Floats]) -> keras.KerasTensor:
    """Turn feature maps [N, h, w, C], the last one first, into the features [N, D] of a head.

    A class token is a map of one position. Of the kind "tokens", the features are the class token
    and the mean of the patches. Of maps of several layers, they are the mean of the last map, and
    the covariances of the channels of each map; see `covariance_pooling`. The mean comes first, so
    that the features of the kind "average" are the first of them.

    Args:
        maps: The feature maps.
        kind: The kind of features.
        axes: Axes of each map; see `covariance_pooling.pooled`.
    """
    from keras import layers

    if kind == FLATTEN:
        return layers.Flatten(dtype="float32", name=names.FEATURES)(maps[0])
    if kind in (AVERAGE, CLASS_TOKEN):
        return layers.GlobalAveragePooling2D(dtype="float32", name=names.FEATURES)(maps[0])
    if kind == TOKENS:
        blocks = [
            layers.GlobalAveragePooling2D(dtype="float32")(feature_map) for feature_map in maps
        ]
    else:
        mean = layers.GlobalAveragePooling2D(dtype="float32")(maps[0])
        blocks = [mean, *covariance_pooling.pooled(maps, axes)]
    return layers.Concatenate(dtype="float32", name=names.FEATURES)(blocks)


def build_maps(
    settings: Settings, trainable: bool = False
) -> tuple[keras.KerasTensor, list[keras.KerasTensor]]:
    """Build the backbone of the settings.

    Returns:
        Pixels [N, S, S, 3], 0..255; and the feature maps that the head reads, the last one first,
        or a class token before it.

    Raises:
        ConfigError: The head would read a class token, and the network has none.
    """
    import keras

    backbone = settings.backbone_spec()
    kind = settings.largest_kind
    pixels = keras.Input((settings.size, settings.size, 3), dtype="float32", name=names.PIXELS)
    last, *class_token = backbone.build(pixels, trainable)
    maps = [last]
    if kind in (CLASS_TOKEN, TOKENS):
        if not class_token:
            raise ConfigError(
                f"model.features: {settings.model.network} has no class token. Expected: auto, "
                "average, "
                f"flatten, covariance, or names of layers. Received: {kind!r}"
            )
        maps = class_token if kind == CLASS_TOKEN else [*class_token, last]
    elif settings.reads_covariances:
        network = keras.Model(pixels, maps[0])
        layers = kind.split(",")
        if kind == COVARIANCE:
            layers = list(backbone.levels) or layer_graph.levels(network)
        maps += [
            layer_graph.cut_layer(network, layer, "model.features").outputs[0] for layer in layers
        ]
    return pixels, maps


def build_features(
    settings: Settings, trainable: bool = False
) -> tuple[keras.KerasTensor, list[keras.KerasTensor], keras.KerasTensor]:
    """Build the network of the settings below the head: see `build_maps`, and its features [N, D].

    Raises:
        ConfigError: See `build_maps`.
    """
    pixels, maps = build_maps(settings, trainable)
    return pixels, maps, features_of(settings, maps)


def features_of(settings: Settings, maps: Sequence[keras.KerasTensor]) -> keras.KerasTensor:
    """Return the features [N, D] that the head of the settings reads of feature maps."""
    return read(maps, settings.largest_kind, covariance_pooling.read_axes(settings))


def require_layers(settings: Settings) -> None:
    """Refuse names of layers that the network does not have; see `layer_graph.layer_at`.

    Raises:
        ConfigError: `model.cut`, `model.features` or `course.fine_tune.cut` names no layer.
    """
    looked_at = settings.frozen and (settings.course.fine_tune.mode == "on" or settings.searches)
    tuned = settings.course.fine_tune.cut if looked_at else ""
    named = settings.model.features not in (AUTO, AVERAGE, FLATTEN, COVARIANCE)
    if settings.model.cut or tuned or named:
        backbone_of(settings)  # fails for a layer that does not exist
        if tuned:
            trained = settings.with_one_block if settings.searches else settings
            layer_graph.layer_at(backbone_of(trained), tuned)


def backbone_of(settings: Settings) -> keras.Model:
    """Build the backbone of the settings, from pixels to the maps that the head reads."""
    import keras

    return keras.Model(*build_maps(settings))


def build_head(dim: int, classes: int, settings: Settings) -> keras.Model:
    """Build the head alone, from features [N, dim] to logits [N, C]."""
    import keras

    features = keras.Input((dim,), dtype="float32", name=names.FEATURES)
    return keras.Model(features, add_head(features, classes, settings), name="head")


def build_classifier(
    trained: keras.Model | None,
    vocabulary: Sequence[str],
    settings: Settings,
    temperature: float = 1.0,
) -> ClassifierNetwork:
    """Build the whole network with the weights of a part that was trained alone.

    Args:
        trained: A head, the layers above a cut, or all layers, built for the same settings and
            number of classes. Layers are matched by name. None keeps the initial weights.
        vocabulary: Class names in label order.
        settings: Settings that name the backbone, its weights and the image size.
        temperature: See `ClassifierNetwork`.
    """
    import keras

    vocabulary = check_vocabulary(vocabulary)
    pixels, maps, features = build_features(settings, not settings.frozen)
    logits = add_head(features, len(vocabulary), settings)
    # The temperature is a constant of the graph, so that every server applies it.
    softmax = keras.layers.Softmax(dtype="float32", name=names.PROBABILITIES)
    outputs: dict[str, Any] = {
        names.FEATURES: features,
        names.LOGITS: logits,
        names.PROBABILITIES: softmax(logits / temperature),
    }
    network = keras.Model(pixels, outputs, name=settings.run.name)
    if trained is not None:
        copy_weights(trained, network)
    ends = _ends(maps)
    return ClassifierNetwork(
        network,
        keras.Model(pixels, ends),
        keras.Model(ends, outputs),
        vocabulary,
        int(pixels.shape[1]),
        temperature,
    )


def _ends(maps: list[keras.KerasTensor]) -> list[keras.KerasTensor]:
    """Return where a network is divided into trunk and tail: at the maps that its head reads.

    A class token says nothing about places. The last block computes it from the patches below, so
    that the network is divided there.
    """
    if maps[0].shape[1:3] != (1, 1):
        return maps
    calls = {node.operation.name: node for node in layer_graph.nodes(maps)}
    below = hub_presets.below_last_block(list(calls))
    return [calls[name].outputs[0] for name in below] or maps


def copy_weights(source: keras.Model, target: keras.Model, common: bool = False) -> None:
    """Copy the weights of every layer to the layer of the same name in another model.

    `common` leaves out the layers that the other model does not have.
    """
    of_target = {layer.name for layer in target.layers}
    for layer in source.layers:
        # Layers without weights, such as an addition, may have another name in each build.
        if layer.weights and (layer.name in of_target or not common):
            target.get_layer(layer.name).set_weights(layer.get_weights())
