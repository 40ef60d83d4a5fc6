"""The cut for fine-tuning: the layers up to the cut are frozen and run once; those above train.

A cut is the name of a layer, a block such as "block11", which means its last layer, or "usual",
which is about two thirds of the way from input to output. The networks here are models from pixels
to a feature map.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from imgpipe.models import backbones
from imgpipe.models.backbones import layer_graph
from imgpipe.models.backbones.layer_graph import GraphNode
from imgpipe.models.errors import ConfigError

if TYPE_CHECKING:
    import keras

#: The name of the cut that lies at `FROZEN_SHARE` of the list of cut points.
USUAL: Final = "usual"
#: Block 10 of EfficientNet-Lite0. Its neighbours were measured on photographs of hands. Training
#: the layers above block 8 took 40 % of the time of training all layers, and training those above
#: block 11 took 24 %. On a split that shares sources, all three reached an accuracy of about 0.97.
#: Split by source, the layers above block 8 reached 0.913, and those above block 11 reached 0.897.
FROZEN_SHARE: Final = 0.7
_NEAR: Final = 0.05  # share of the cut points in which a narrow layer is searched for
_LISTED: Final = 40
_MAP_AXES: Final = 4  # [N, h, w, C]


def layer_at(network: keras.Model, cut: str) -> GraphNode:
    """Return the call of the layer that `cut` names, whose output the layers above it read.

    `layer.output` is not that tensor if the layer is a model: it is then a tensor inside it.

    Args:
        network: Functional model from pixels to a feature map.
        cut: Name of a layer or of a block, or `USUAL`.

    Raises:
        ConfigError: There is no such layer, the layers above it need more than its output, or none
            of them has weights.
    """
    points = _trainable_above(network)
    if cut == USUAL:
        maps = map_points(network)
        if not maps:
            raise ConfigError(
                "fine_tune.mode: this network has no layer above which layers could be trained, "
                "because no layer separates the network into two parts. "
                'Set fine_tune.mode = "off", or freeze = "none" to train all layers'
            )
        number = int(FROZEN_SHARE * (len(_maps(network)) - 1))
        name = maps[min(number, len(maps) - 1)]
    else:
        name = backbones.find_cut(network, cut)
    if name not in points:
        raise ConfigError(
            "fine_tune.cut: expected a layer below others with weights, whose output is all that "
            f"the layers above it need: {', '.join(_shortened(list(points)))}. Received: {cut!r}"
        )
    return points[name]


def map_points(network: keras.Model) -> list[str]:
    """Return the cut points that give a feature map and have layers with weights above them.

    Layers between tokens give no feature map, and above the last layer nothing could be trained.

    Args:
        network: Functional model from pixels to a feature map.
    """
    points = _trainable_above(network)
    return [name for name in _maps(network) if name in points]


def above(network: keras.Model, cut: str) -> list[Any]:
    """Return the layers with weights above the cut, from input to output.

    Args:
        network: Functional model from pixels to a feature map.
        cut: Name of a layer or of a block, or `USUAL`. Its own layer is not returned.

    Raises:
        ConfigError: As for `layer_at`.
    """
    import keras

    found = layer_at(network, cut)
    tail = keras.Model(found.outputs[0], network.outputs)
    return [layer for layer in tail.layers if layer is not found.operation and layer.weights]


def narrow(network: keras.Model, share: float) -> str:
    """Return the cut with the smallest activations at about a share of the cut points.

    Activations are stored for every image and view, so their size decides how many views fit.

    Args:
        network: A model from pixels to the feature map, with `map_points`.
        share: Share of the cut points that are below, 0..1.
    """
    maps, points = _maps(network), map_points(network)
    last = len(maps) - 1

    def size(name: str) -> int:
        return math.prod(maps[name].outputs[0].shape[1:])

    first, stop = (round((share + side) * last) for side in (-_NEAR, _NEAR))
    near = points[max(first, 0) : stop + 1]  # `points` are the first of `maps`
    return min(near or points[-1:], key=size)


def _points(network: keras.Model) -> dict[str, GraphNode]:
    """Return the cut points by name, in the order of the network."""
    names = set(backbones.cut_points(network))
    order = layer_graph.nodes(network.outputs)
    return {node.operation.name: node for node in order if node.operation.name in names}


def _maps(network: keras.Model) -> dict[str, GraphNode]:
    """Return the cut points that give a feature map."""
    points = _points(network).items()
    return {name: node for name, node in points if len(node.outputs[0].shape) == _MAP_AXES}


def _trainable_above(network: keras.Model) -> dict[str, GraphNode]:
    """Return the cut points above which there are layers with weights."""
    order = [node.operation for node in layer_graph.nodes(network.outputs)]
    weighted = [operation for operation in order if getattr(operation, "weights", None)]
    below = {id(operation) for operation in order[: order.index(weighted[-1])]} if weighted else {}
    return {name: node for name, node in _points(network).items() if id(node.operation) in below}


def share_above(network: keras.Model, cut: str) -> float:
    """Return the share of the network's operations that are above a cut, 0..1."""
    total = _operations(network.layers)
    return _operations(above(network, cut)) / total if total else 1.0


def _operations(layers: Iterable[Any]) -> float:
    """Multiplications of a forward pass of the convolutions among some layers.

    The layers inside a model of a class of its own have no known outputs, so they count 0.
    """
    import keras

    total = 0.0
    for layer in layers:
        if isinstance(layer, keras.Model) and getattr(layer, "inputs", None):
            total += _operations(layer.layers)
        elif isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            total += math.prod(layer.kernel.shape) * _positions(layer)
        elif isinstance(layer, keras.layers.SeparableConv2D):
            kernels = (layer.depthwise_kernel, layer.pointwise_kernel)
            total += sum(math.prod(kernel.shape) for kernel in kernels) * _positions(layer)
    return total


def _positions(layer: Any) -> int:
    """Return the number of positions of a layer's map; unknown sides of one in a model count 1."""
    return math.prod(side or 1 for side in layer.output.shape[1:3])


def _shortened(names: list[str]) -> list[str]:
    if len(names) <= _LISTED:
        return names
    return [*names[: _LISTED // 2], "…", *names[-_LISTED // 2 :]]
