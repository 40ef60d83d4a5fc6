"""Outputs of a network's layers for one image, and the choice of the layers to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from imgpipe.models.backbones import layer_graph
from imgpipe.models.errors import ConfigError, nearest

if TYPE_CHECKING:
    import keras

#: The name that stands for every layer whose output can be shown.
ALL: Final = "all"
#: Number of layers that are shown when none are named: the first, the last and some between.
USUAL: Final = 6

_LISTED: Final = 40  # number of layers that an error message lists
_CONVOLUTIONS: Final = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D")
#: Layers that only pass on, scale, pad or crop the pixels, so that they show nothing new.
_DULL: Final = ("InputLayer", "Rescaling", "Normalization", "ZeroPadding2D", "Cropping2D")
_FINISHES: Final = ("BatchNormalization", "ReLU", "Activation")  # these complete a convolution
_POOLINGS: Final = ("MaxPooling2D", "AveragePooling2D")
_UNCHANGED: Final = ("InputLayer", "Dropout", "SpatialDropout2D")  # no effect in inference

Array = npt.NDArray[np.float32]


def choose(network: keras.Model, wanted: Sequence[str] = ()) -> list[str]:
    """Return the names of the layers to show, in the network's order.

    Args:
        network: A functional model of pixels.
        wanted: Names of layers, or `ALL`. Without any, `USUAL` layers that give maps are chosen,
            evenly between the first convolution and the last map.

    Raises:
        ConfigError: The network has no layer of one of these names.
    """
    import keras

    order = layer_graph.nodes(network.outputs)
    layers = [node.operation for node in order if isinstance(node.operation, keras.layers.Layer)]
    names = [layer.name for layer in layers if type(layer).__name__ not in _UNCHANGED]
    if not wanted:
        return _spread(_worth_a_look(network), USUAL)
    if ALL in wanted:
        return names
    unknown = [name for name in wanted if name not in names]
    if unknown:
        listed = ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
        raise ConfigError(
            f"--layer: expected a layer of this network, or {ALL}: {listed}. Received: "
            f"{unknown[0]!r}{nearest(unknown[0], names)}"
        )
    return [name for name in names if name in wanted]


def _worth_a_look(network: keras.Model) -> list[str]:
    """Return the layers, from the first convolution on, on whose map every later layer depends.

    Where the normalisation or the activation of a convolution is a layer of its own, that layer is
    chosen instead of the convolution. Pooling layers are left out, except for the last layer.
    """
    order = layer_graph.nodes(network.outputs)
    kinds = [type(node.operation).__name__ for node in order]
    readers: dict[int, list[int]] = {}
    for position, node in enumerate(order):
        for read in node.reads:
            readers.setdefault(read, []).append(position)
    points = set(layer_graph.cut_points(network))
    first = next((i for i, kind in enumerate(kinds) if kind in _CONVOLUTIONS), 0)
    maps = [
        position
        for position in range(first, len(order))
        if len(order[position].outputs[0].shape) == 4
        and order[position].operation.name in points
        and kinds[position] not in _DULL
    ]

    def is_finished_later(position: int) -> bool:
        after = readers[position]
        return len(after) == 1 and kinds[after[0]] in _FINISHES

    chosen = [
        position
        for position in maps[:-1]
        if kinds[position] not in _POOLINGS and not is_finished_later(position)
    ]
    return [order[position].operation.name for position in (*chosen, *maps[-1:])]


def _spread(names: Sequence[str], count: int) -> list[str]:
    """Return at most `count` of the names, evenly spaced, including the first and the last."""
    if len(names) <= count:
        return list(names)
    return [names[round(i * (len(names) - 1) / (count - 1))] for i in range(count)]


def outputs(network: keras.Model, names: Sequence[str], pixels: Array) -> dict[str, Array]:
    """Return the outputs of layers for one image.

    Args:
        network: A functional model of pixels.
        names: Names of the layers.
        pixels: The image, float [S, S, 3], 0..255.

    Returns:
        For each name, maps float32 [h, w, D] or a vector float32 [D].
    """
    import keras

    # The output of the call: `output` of a layer that is itself a model is a tensor inside it.
    called = {node.operation.name: node for node in layer_graph.nodes(network.outputs)}
    ends = {name: called[name].outputs[0] for name in names}
    values: dict[str, Any] = keras.Model(network.input, ends)(pixels[None], training=False)
    return {name: np.asarray(values[name], np.float32)[0] for name in names}


def most_varied(maps: Array, count: int) -> list[int]:
    """Return the channels whose values vary most over the image, the most varied first.

    A map with the same value everywhere shows no location, however high the value is. Maps of a
    single position are ordered by their value.

    Args:
        maps: Feature maps, float [h, w, D].
        count: Largest number of channels to return.
    """
    flat = maps.reshape(-1, maps.shape[-1]).astype(np.float64)
    strength = np.abs(flat[0]) if len(flat) == 1 else flat.std(axis=0)
    return [int(i) for i in np.argsort(-strength, kind="stable")[:count]]
