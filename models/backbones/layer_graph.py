"""The layers of a network as a graph, and where it can be cut.

A feature map can be the output of any layer with one output [N, h, w, C]. For fine-tuning, the
layers up to the cut are frozen and run once, and those above train from stored activations, which
are a feature map or the tokens [N, T, C] of a transformer. All of these must depend on one tensor,
so that no skip connection bypasses it; `cut_points` lists the layers for which this holds. A cut is
the name of a layer, or a block such as "block11", which means its last layer.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from imgpipe.models.errors import ConfigError, nearest

if TYPE_CHECKING:
    import keras

#: The names of the layers in MobileNet's first block contain no number.
_FIRST_BLOCK: Final = ("expanded_conv_project", "expanded_conv_add")
#: Share of the cut points below the usual cut; about half of the operations are above it.
_CUT: Final = 0.61
_NEAR: Final = 0.05  # share of the layers in which a narrow or a wide one is searched for
LEVEL_SHARES: Final = (5 / 6, 2 / 3)  # where `levels` are, as a share of the feature maps


class GraphNode(NamedTuple):
    """One call of a layer or operation of a network."""

    operation: Any
    outputs: tuple[keras.KerasTensor, ...]
    reads: tuple[int, ...]  # positions of those whose outputs it reads, in the list of `nodes`


def nodes(ends: Sequence[keras.KerasTensor]) -> list[GraphNode]:
    """Return all operations on which tensors depend, each after those that it reads."""
    order: list[GraphNode] = []
    # A layer that is called twice is two operations, which the number of the call tells apart.
    position: dict[tuple[int, int], int] = {}
    waiting = [_origin(end) for end in reversed(ends)]
    while waiting:
        operation, number = waiting[-1]
        node = operation._inbound_nodes[number]
        parents = [_origin(tensor) for tensor in node.input_tensors]
        missing = [parent for parent in parents if (id(parent[0]), parent[1]) not in position]
        if missing:  # the operation stays on the stack below those that it reads
            waiting.extend(reversed(missing))
            continue
        waiting.pop()
        if (id(operation), number) not in position:
            reads = tuple(position[id(parent[0]), parent[1]] for parent in parents)
            position[id(operation), number] = len(order)
            order.append(GraphNode(operation, tuple(node.outputs), reads))
    return order


def cut_points(network: keras.Model) -> list[str]:
    """Return the layers whose output alone connects input and output, in their order.

    Everything above such a layer is a function of its activations, so it can be trained from them.
    """
    # An edge from node i to node j bypasses the nodes between them, so none of these is a cut
    # point. The edges are counted as differences, +1 at i + 1 and -1 at j, whose running sum is
    # the number of edges that bypass a node. An output is an edge to a node after the last one.
    order = nodes(network.outputs)
    passed = [0] * (len(order) + 1)
    last = len(order)
    outputs = {id(end) for end in network.outputs}
    for position, node in enumerate(order):
        targets = [(read, position) for read in node.reads]
        if any(id(tensor) in outputs for tensor in node.outputs):
            targets.append((position, last))
        for start, stop in targets:
            if stop - start > 1:
                passed[start + 1] += 1
                passed[stop] -= 1
    calls: dict[int, list[int]] = defaultdict(list)  # positions of each operation
    for position, node in enumerate(order):
        calls[id(node.operation)].append(position)
    for positions in calls.values():
        first = positions[0]
        if len(positions) > 1 and getattr(order[first].operation, "weights", None):
            # Its weights would be both below and above a cut between its calls.
            passed[first] += 1
            passed[positions[-1]] -= 1
    points = []
    bypassing = 0
    for position, node in enumerate(order):
        bypassing += passed[position]
        once = len(calls[id(node.operation)]) == 1  # else its name means several outputs
        if not bypassing and once and len(node.outputs) == 1 and _is_layer(node.operation):
            points.append(node.operation.name)
    return points


def cut_layer(
    network: keras.Model, name: str, setting: str = "cut", tokens: bool = False
) -> GraphNode:
    """Return the call of the layer that `name` means.

    Args:
        network: A functional model.
        name: Name of a layer, or of a block such as "block11", which means its last layer.
        setting: Setting that gives the name, which an error names.
        tokens: Whether the output may be tokens [N, T, C] instead of a feature map.

    Raises:
        ConfigError: There is no such layer, or its output is not one feature map.
    """
    layers = {n.operation.name: n for n in nodes(network.outputs) if _is_layer(n.operation)}
    accepted = _is_activation if tokens else _is_map
    points = [point for point in cut_points(network) if accepted(layers[point])]
    if name in layers:
        if accepted(layers[name]):
            return layers[name]
        shape = layers[name].outputs[0].shape
        expected = "[N, h, w, C]" + (", or tokens [N, T, C]" if tokens else "")
        raise ConfigError(
            f"{setting}: expected a layer that gives a feature map {expected}. Received: "
            f"{name!r}, which gives {shape}. Layers to cut at: {', '.join(points)}"
        )
    block = re.fullmatch(r"block_?(\w+)", name)
    if block:
        number = block[1]
        starts = (f"block{number}_", f"block_{number}_") + _FIRST_BLOCK * (number == "0")
        inside = [point for point in points if point.startswith(starts)]
        if inside:
            return layers[inside[-1]]
    raise ConfigError(
        f"{setting}: expected the name of a layer. Received: {name!r}{nearest(name, layers)}. "
        f"Layers to cut at: {', '.join(points)}"
    )


def layer_at(network: keras.Model, cut: str) -> GraphNode:
    """Return the call of the layer or block `cut`, whose output the layers above it read.

    `layer.output` is not that tensor if the layer is a model: it is then a tensor inside it.

    Raises:
        ConfigError: There is no such layer, the layers above it need more than its output, or none
            of them has weights.
    """
    points = _trainable_above(network)
    name = cut_layer(network, cut, "course.fine_tune.cut", tokens=True).operation.name
    if name not in points:
        raise ConfigError(
            "course.fine_tune.cut: expected a layer below others with weights, whose output is all "
            f"that the layers above it need: {', '.join(points)}. Received: {cut!r}"
        )
    return points[name]


def map_points(network: keras.Model) -> list[str]:
    """Return the cut points that give a feature map or tokens, with layers with weights above.

    Above the last layer nothing could be trained.
    """
    points = _trainable_above(network)
    return [name for name in _activations(network) if name in points]


def layers_above(network: keras.Model, cut: str) -> list[Any]:
    """Return the layers with weights above a cut, from input to output; see `layer_at`."""
    import keras

    node = layer_at(network, cut)
    tail = keras.Model(node.outputs[0], network.outputs)
    return [layer for layer in tail.layers if layer is not node.operation and layer.weights]


def usual_cut(network: keras.Model) -> str:
    """Return the layer above which layers are trained if no cut is given.

    Activations are stored for every image and view, so their size decides how many views fit. The
    cut is the one with the smallest activations near a share of the cut points.

    Raises:
        ConfigError: The network cannot be cut.
    """
    maps = _activations(network)
    points = map_points(network)
    if not points:
        raise ConfigError(
            "course.fine_tune.mode: this network has no layer above which layers could be trained, "
            "because no layer separates the network into two parts. "
            'Set course.fine_tune.mode = "off", or course.freeze = "none" to train all layers'
        )
    last = len(maps) - 1

    def size(name: str) -> int:
        return math.prod(maps[name].outputs[0].shape[1:])

    first, stop = (round((_CUT + side) * last) for side in (-_NEAR, _NEAR))
    near = points[max(first, 0) : stop + 1]  # `points` are the first of `maps`
    return min(near or points[-1:], key=size)


def levels(network: keras.Model) -> list[str]:
    """Return two layers whose feature maps a head may read beside the last one, the highest first.

    They are those with most channels near five sixths and two thirds of the way through the maps,
    without those of one position, such as what squeeze-and-excitation computes of the means of a
    map: nothing varies over it.
    """
    order = [
        node
        for node in nodes(network.outputs)
        if _is_layer(node.operation) and _is_map(node) and node.outputs[0].shape[1:3] != (1, 1)
    ]
    last = len(order) - 1
    chosen = []
    for share in LEVEL_SHARES:
        first, stop = (max(0, round((share + side) * last)) for side in (-_NEAR, _NEAR))
        near = order[first : min(stop + 1, last)]  # of equal ones the highest
        if near:
            chosen.append(max(reversed(near), key=lambda node: node.outputs[0].shape[-1]))
    return list(dict.fromkeys(node.operation.name for node in chosen))


def _points(network: keras.Model) -> dict[str, GraphNode]:
    """Return the cut points by name, in the order of the network."""
    names = set(cut_points(network))
    order = nodes(network.outputs)
    return {node.operation.name: node for node in order if node.operation.name in names}


def _activations(network: keras.Model) -> dict[str, GraphNode]:
    """Return the cut points that give a feature map or tokens."""
    return {name: node for name, node in _points(network).items() if _is_activation(node)}


def _trainable_above(network: keras.Model) -> dict[str, GraphNode]:
    """Return the cut points above which there are layers with weights."""
    order = [node.operation for node in nodes(network.outputs)]
    weighted = [operation for operation in order if getattr(operation, "weights", None)]
    below = {id(operation) for operation in order[: order.index(weighted[-1])]} if weighted else {}
    return {name: node for name, node in _points(network).items() if id(node.operation) in below}


def share_above(network: keras.Model, cut: str) -> float:
    """Return the share of the network's multiplications that are above a cut, 0..1."""
    total = multiplications(network.layers)
    return multiplications(layers_above(network, cut)) / total if total else 1.0


def multiplications(layers: Iterable[Any]) -> float:
    """Return the multiplications of layers in a forward pass of one image; 0 if none's are known.

    Those of convolutions and dense layers count. Of a layer that contains others, such as the block
    of a transformer, each weight of a matrix is used at each position of its output. What attention
    multiplies besides is less than a tenth. The layers inside a model of a class of its own have no
    known outputs, so they count 0.
    """
    import keras

    with_kernel = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
    total = 0.0
    for layer in layers:
        if isinstance(layer, keras.Model) and getattr(layer, "inputs", None):
            total += multiplications(layer.layers)
            continue
        if isinstance(layer, with_kernel):
            kernels = [layer.kernel]
        elif isinstance(layer, keras.layers.SeparableConv2D):
            kernels = [layer.depthwise_kernel, layer.pointwise_kernel]
        elif list(layer._flatten_layers(include_self=False)) and layer._inbound_nodes:
            # Tables of positions and classes have one row, and are added.
            matrices = [weight for weight in layer.weights if len(weight.shape) > 1]
            kernels = [matrix for matrix in matrices if matrix.shape[0] > 1]
        else:
            continue
        shape = layer._inbound_nodes[0].output_tensors[0].shape
        positions = math.prod(side or 1 for side in shape[1:-1])  # unknown sides are 1
        total += sum(math.prod(kernel.shape) for kernel in kernels) * positions
    return total


def _origin(tensor: keras.KerasTensor) -> tuple[Any, int]:
    history = tensor._keras_history
    return history.operation, history.node_index


def _is_layer(operation: Any) -> bool:
    """Return whether an operation is a layer; others have names that change with each build."""
    import keras

    is_layer = isinstance(operation, keras.layers.Layer)
    return is_layer and not isinstance(operation, keras.layers.InputLayer)


def _is_map(node: GraphNode) -> bool:
    return len(node.outputs) == 1 and len(node.outputs[0].shape) == 4


def _is_activation(node: GraphNode) -> bool:
    """Return whether a node gives a feature map or tokens."""
    return len(node.outputs) == 1 and len(node.outputs[0].shape) in (3, 4)
