"""Layers at which a network can be cut, and short names for blocks.

A feature map can be the output of any layer with one output [N, h, w, C]. Training from stored
activations needs more: all layers above the cut must depend on this one tensor, so that no skip
connection bypasses it. `cut_points` lists the layers for which this holds.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imgpipe.models.errors import ConfigError, nearest

if TYPE_CHECKING:
    import keras

#: The names of the layers in MobileNet's first block contain no number.
_FIRST_BLOCK = ("expanded_conv_project", "expanded_conv_add")


@dataclass(frozen=True)
class GraphNode:
    """One call of a layer or operation of a network.

    Attributes:
        operation: The layer or operation.
        outputs: Its outputs.
        reads: Positions of the operations whose outputs it reads, in the list of `nodes`.
    """

    operation: Any
    outputs: tuple[keras.KerasTensor, ...]
    reads: tuple[int, ...]


def nodes(ends: Sequence[keras.KerasTensor]) -> list[GraphNode]:
    """Return all operations on which tensors depend, each after those that it reads.

    Args:
        ends: Outputs of a functional model, or other tensors of one.
    """
    found: list[GraphNode] = []
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
            position[id(operation), number] = len(found)
            found.append(GraphNode(operation, tuple(node.outputs), reads))
    return found


def cut_points(network: keras.Model | keras.KerasTensor) -> list[str]:
    """Return the layers whose output alone connects input and output, in the order of the network.

    Everything above such a layer is a function of its activations, so it can be trained from them.

    Args:
        network: A functional model, or a tensor of one, such as a feature map.
    """
    # An edge from node i to node j bypasses the nodes between them, so none of these is a cut
    # point. The edges are counted as differences, +1 at i + 1 and -1 at j, whose running sum is
    # the number of edges that bypass a node. An output is an edge to a node after the last one.
    ends = _ends(network)
    order = nodes(ends)
    passed = [0] * (len(order) + 1)
    last = len(order)
    outputs = {id(end) for end in ends}
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
    for first, *_, final in (found for found in calls.values() if len(found) > 1):
        if getattr(order[first].operation, "weights", None):
            # Its weights would be both below and above a cut between its calls.
            passed[first] += 1
            passed[final] -= 1
    points, bypassing = [], 0
    for position, node in enumerate(order):
        bypassing += passed[position]
        once = len(calls[id(node.operation)]) == 1  # else its name means several outputs
        if not bypassing and once and len(node.outputs) == 1 and _is_layer(node.operation):
            points.append(node.operation.name)
    return points


def find(network: keras.Model | keras.KerasTensor, name: str) -> str:
    """Return the name of the layer that `name` means.

    Args:
        network: A functional model, or a tensor of one.
        name: Name of a layer, or of a block such as "block11", which means its last layer.

    Raises:
        ConfigError: There is no such layer, or its output is not one feature map.
    """
    maps = {node.operation.name: node.outputs for node in _layers(network)}
    points = [point for point in cut_points(network) if _is_map(maps[point])]
    if name in maps:
        if _is_map(maps[name]):
            return name
        shape = maps[name][0].shape
        raise ConfigError(
            f"cut: expected a layer that gives a feature map [N, h, w, C]. Received: {name!r}, "
            f"which gives {shape}. Layers to cut at: {', '.join(points)}"
        )
    block = re.fullmatch(r"block_?(\w+)", name)
    if block:
        number = block[1]
        starts = (f"block{number}_", f"block_{number}_") + _FIRST_BLOCK * (number == "0")
        inside = [point for point in points if point.startswith(starts)]
        if inside:
            return inside[-1]
    raise ConfigError(
        f"cut: expected the name of a layer. Received: {name!r}{nearest(name, maps)}. "
        f"Layers to cut at: {', '.join(points)}"
    )


def feature_map(network: keras.Model | keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Return the output of the layer that `find` returns, symbolic [N, h, w, C].

    Args:
        network: A functional model, or a tensor of one.
        name: Name of a layer or of a block.

    Raises:
        ConfigError: As for `find`.
    """
    wanted = find(network, name)
    return next(node.outputs[0] for node in _layers(network) if node.operation.name == wanted)


def _origin(tensor: keras.KerasTensor) -> tuple[Any, int]:
    history = tensor._keras_history
    return history.operation, history.node_index


def _ends(network: keras.Model | keras.KerasTensor) -> list[keras.KerasTensor]:
    import keras

    return list(network.outputs) if isinstance(network, keras.Model) else [network]


def _layers(network: keras.Model | keras.KerasTensor) -> Iterator[GraphNode]:
    return (node for node in nodes(_ends(network)) if _is_layer(node.operation))


def _is_layer(operation: Any) -> bool:
    """Return whether an operation is a layer; others have names that change with each build."""
    import keras

    is_layer = isinstance(operation, keras.layers.Layer)
    return is_layer and not isinstance(operation, keras.layers.InputLayer)


def _is_map(outputs: tuple[keras.KerasTensor, ...]) -> bool:
    return len(outputs) == 1 and len(outputs[0].shape) == 4
