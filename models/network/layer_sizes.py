"""The size arithmetic of a network, layer by layer: W2 = (W1 − F + 2P)/S + 1, D2 = K.

The formulas follow the notes of the course (Stanford CS231n, "Convolutional Networks"). F is the
side of the filter or of the pooling window, P the padding at each side in pixels, S the stride, K
the number of filters, and W and D are the width and the depth of a map. Padding "same" is not
always equal on both sides, because TensorFlow puts the odd pixel at the end. The formulas therefore
contain the padding of both sides instead of 2P.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imgpipe.models.backbones import layer_graph

if TYPE_CHECKING:
    import keras

Shape = tuple[int, ...]  # without the batch dimension


@dataclass(frozen=True)
class Axis:
    """One axis of a convolution or a pooling. All sizes are in pixels.

    Attributes:
        size: Size of the input.
        window: Size of the filter or of the pooling window, with its dilation.
        stride: Distance between two windows.
        before: Padding before the input.
        after: Padding after the input.
    """

    size: int
    window: int
    stride: int
    before: int = 0
    after: int = 0

    @classmethod
    def of(cls, size: int, window: int, stride: int, padding: str, dilation: int = 1) -> Axis:
        """Return the axis of a layer with Keras' padding, "valid" or "same"."""
        window = dilation * (window - 1) + 1
        if padding != "same":
            return cls(size, window, stride)
        # The output has ⌈size/stride⌉ windows, and the odd pixel of padding is at the end.
        total = max((math.ceil(size / stride) - 1) * stride + window - size, 0)
        return cls(size, window, stride, total // 2, total - total // 2)

    @property
    def result(self) -> int:
        """Size of the output, which is the number of windows that fit."""
        return (self.size - self.window + self.before + self.after) // self.stride + 1

    @property
    def padding(self) -> str:
        """P as text, before|after where they differ."""
        return f"{self.before}" if self.before == self.after else f"{self.before}|{self.after}"

    def formula(self) -> str:
        """Arithmetic of `result`, such as ``(150 − 3 + 2·0)/1 + 1``; ⌊ ⌋ means rounding down."""
        same = self.before == self.after
        padding = f"2·{self.before}" if same else f"{self.before} + {self.after}"
        over = self.size - self.window + self.before + self.after
        share = f"({self.size} − {self.window} + {padding})/{self.stride}"
        return f"⌊{share}⌋ + 1" if over % self.stride else f"{share} + 1"


@dataclass(frozen=True)
class LayerSize:
    """How a layer changes the size of its input.

    Attributes:
        name: Name of the layer.
        kind: Name of its class.
        inputs: Shapes of its inputs.
        output: Shape of its output.
        arithmetic: The arithmetic written out, "" where the layer has none.
        axes: Height and width of a convolution or a pooling, otherwise empty.
        filters: K; None where the layer has no filters.
        parameters: Number of weights of the layer, trainable or not.
    """

    name: str
    kind: str
    inputs: tuple[Shape, ...]
    output: Shape
    arithmetic: str
    axes: tuple[Axis, ...]
    filters: int | None
    parameters: int


def sizes(network: keras.Model) -> list[LayerSize]:
    """Return the sizes of all layers of a functional model, each after those that it reads."""
    import keras

    order = layer_graph.nodes(network.outputs)
    return [
        _size(node.operation, [order[read].outputs[0] for read in node.reads], node.outputs[0])
        for node in order
        if isinstance(node.operation, keras.layers.Layer)
    ]


def _size(layer: Any, inputs: Sequence[keras.KerasTensor], output: keras.KerasTensor) -> LayerSize:
    shapes, shape = tuple(tuple(one.shape[1:]) for one in inputs), tuple(output.shape[1:])
    axes = _axes(layer, shapes[0]) if shapes else ()
    # Dense layers have units, which are their filters.
    filters = getattr(layer, "filters", None) or getattr(layer, "units", None)
    return LayerSize(
        layer.name,
        type(layer).__name__,
        shapes,
        shape,
        _arithmetic(type(layer).__name__, axes, shapes, shape, filters),
        axes,
        filters,
        layer.count_params(),
    )


def _axes(layer: Any, shape: Shape) -> tuple[Axis, ...]:
    window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
    if window is None or len(window) != 2:
        return ()
    dilation = getattr(layer, "dilation_rate", (1, 1))
    return tuple(
        Axis.of(shape[i], window[i], layer.strides[i], layer.padding, dilation[i]) for i in (0, 1)
    )


def _arithmetic(
    kind: str, axes: Sequence[Axis], shapes: Sequence[Shape], output: Shape, filters: int | None
) -> str:
    depth = f"D = K = {filters}" if filters else f"D = {output[-1]}"
    if axes:
        height, width = axes
        text = f"{width.formula()} = {width.result}, {depth}"
        return text if height == width else f"H: {height.formula()} = {height.result}; W: {text}"
    if kind == "Flatten":
        return f"{'·'.join(map(str, shapes[0]))} = {output[-1]}"
    if kind.startswith("Global"):
        return f"{shapes[0][0]}·{shapes[0][1]} positions become one, {depth}"
    if kind == "Concatenate":
        return f"D = {' + '.join(str(shape[-1]) for shape in shapes)} = {output[-1]}"
    return depth if filters else ""
