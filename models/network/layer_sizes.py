"""The size arithmetic of a network, layer by layer: W2 = (W1 − F + 2P)/S + 1, D2 = K.

The formulas follow the notes of the course (Stanford CS231n, "Convolutional Networks"). F is the
side of the filter or of the pooling window, P the padding at each side in pixels, S the stride, K
the number of filters, and W and D are the width and the depth of a map. Padding "same" is not
always equal on both sides, because TensorFlow puts the odd pixel at the end. The formulas therefore
contain the padding of both sides instead of 2P.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from imgpipe.models.backbones import layer_graph

if TYPE_CHECKING:
    import keras

Shape = tuple[int, ...]  # without the batch dimension

_SAME_SHAPE: Final = {
    *("Activation", "BatchNormalization", "Dropout", "LayerNormalization", "LayerScale"),
    *("Normalization", "ReLU", "Rescaling", "Softmax", "SpatialDropout2D", "StochasticDepth"),
    *("TrueDivide", "Flip"),
}
_POOLINGS: Final = ("AveragePooling2D", "MaxPooling2D")
_JOINS: Final = ("Add", "Multiply", "Average", "Maximum", "Subtract")


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
    before: int
    after: int

    @property
    def result(self) -> int:
        """Size of the output, which is the number of windows that fit."""
        return (self.size - self.window + self.before + self.after) // self.stride + 1

    def formula(self) -> str:
        """Arithmetic of `result`, such as ``(150 − 3 + 2·0)/1 + 1``; ⌊ ⌋ means rounding down."""
        same = self.before == self.after
        padding = f"2·{self.before}" if same else f"{self.before} + {self.after}"
        over = self.size - self.window + self.before + self.after
        share = f"({self.size} − {self.window} + {padding})/{self.stride}"
        return f"⌊{share}⌋ + 1" if over % self.stride else f"{share} + 1"

    @classmethod
    def of(cls, size: int, window: int, stride: int, padding: str, dilation: int = 1) -> Axis:
        """Return the axis of a layer with Keras' padding.

        Args:
            size: Size of the input in pixels.
            window: Size of the filter or of the pooling window in pixels, without dilation.
            stride: Distance between two windows in pixels.
            padding: "valid" for no padding, or "same" for as much as gives an output of
                ⌈size/stride⌉.
            dilation: Distance between two values of the filter in pixels.
        """
        window = dilation * (window - 1) + 1
        if padding != "same":
            return cls(size, window, stride, 0, 0)
        # The output has ⌈size/stride⌉ windows, and the odd pixel of padding is at the end.
        total = max((math.ceil(size / stride) - 1) * stride + window - size, 0)
        return cls(size, window, stride, total // 2, total - total // 2)


@dataclass(frozen=True)
class LayerSize:
    """How a layer changes the size of its input.

    Attributes:
        name: Name of the layer; "" for an operation that is not a layer, whose name has no meaning.
        kind: Name of its class.
        inputs: Shapes of its inputs.
        output: Shape of its output according to Keras.
        computed: Shape of its output by arithmetic; None when there is none for this kind of layer.
        arithmetic: The arithmetic written out.
        window: F, such as "3" or "1×7"; "" where the layer has none.
        stride: S, in the same form.
        padding: P, in the same form.
        filters: K, in the same form.
        parameters: Number of weights of the layer, trainable or not.
    """

    name: str
    kind: str
    inputs: tuple[Shape, ...]
    output: Shape
    computed: Shape | None = None
    arithmetic: str = ""
    window: str = ""
    stride: str = ""
    padding: str = ""
    filters: str = ""
    parameters: int = 0


@dataclass(frozen=True)
class _Result:
    """The result of the arithmetic of one layer; without a shape, there is none for its kind."""

    shape: Shape | None = None
    text: str = ""
    axes: tuple[Axis, ...] = ()
    filters: str = ""


def sizes(network: keras.Model) -> list[LayerSize]:
    """Return the sizes of all layers and operations of a network.

    Args:
        network: A functional model.

    Returns:
        One entry for each layer or operation, after those whose outputs it reads.
    """
    order = layer_graph.nodes(network.outputs)
    return [
        _size(node.operation, [order[read].outputs[0] for read in node.reads], node.outputs[0])
        for node in order
    ]


def _size(
    operation: Any, inputs: Sequence[keras.KerasTensor], output: keras.KerasTensor
) -> LayerSize:
    import keras

    is_layer = isinstance(operation, keras.layers.Layer)
    shapes = tuple(_shape(tensor) for tensor in inputs)
    kind = type(operation).__name__
    result = _compute(kind, operation, shapes)
    return LayerSize(
        operation.name if is_layer else "",
        kind,
        shapes,
        _shape(output),
        result.shape,
        result.text,
        _pair([str(axis.window) for axis in result.axes]),
        _pair([str(axis.stride) for axis in result.axes]),
        _pair([_padding(axis) for axis in result.axes]),
        result.filters,
        operation.count_params() if is_layer else 0,
    )


def _compute(kind: str, layer: Any, shapes: tuple[Shape, ...]) -> _Result:
    if not shapes:
        return _Result()  # the input
    if kind in _SAME_SHAPE:
        return _Result(shapes[0])
    if kind in _JOINS:  # a side of 1 is repeated, as in the weights of squeeze-and-excite
        return _Result(tuple(max(sides) for sides in zip(*shapes, strict=True)))
    known = _KINDS.get(kind)
    return known(layer, shapes) if known else _Result()


def _convolution(layer: Any, shapes: tuple[Shape, ...]) -> _Result:
    axes = _axes(layer, shapes[0], layer.kernel_size)
    return _sliding(axes, layer.filters, f"D = K = {layer.filters}", str(layer.filters))


def _depthwise(layer: Any, shapes: tuple[Shape, ...]) -> _Result:
    axes, each = _axes(layer, shapes[0], layer.kernel_size), layer.depth_multiplier
    depth = shapes[0][-1] * each
    by = f"D = {shapes[0][-1]}·{each} = {depth}" if each > 1 else f"D = {depth}"
    return _sliding(axes, depth, f"{by}, {each} filter{'s' * (each > 1)} a channel", str(depth))


def _pooling(layer: Any, shapes: tuple[Shape, ...]) -> _Result:
    axes, depth = _axes(layer, shapes[0], layer.pool_size), shapes[0][-1]
    return _sliding(axes, depth, f"D = {depth}")


def _axes(layer: Any, shape: Shape, window: Sequence[int]) -> tuple[Axis, ...]:
    dilation = getattr(layer, "dilation_rate", (1, 1))
    return tuple(
        Axis.of(shape[i], window[i], layer.strides[i], layer.padding, dilation[i]) for i in (0, 1)
    )


def _sliding(axes: tuple[Axis, ...], depth: int, depth_text: str, filters: str = "") -> _Result:
    height, width = axes
    text = f"{width.formula()} = {width.result}"
    if height != width:
        text = f"H: {height.formula()} = {height.result}; W: {text}"
    return _Result((height.result, width.result, depth), f"{text}, {depth_text}", axes, filters)


def _framed(layer: Any, shapes: tuple[Shape, ...]) -> _Result:
    """Return the size after padding, which adds a frame, or cropping, which takes one away."""
    pads, shape = hasattr(layer, "padding"), shapes[0]
    sign, spelled = (1, "+") if pads else (-1, "−")
    (top, bottom), (left, right) = layer.padding if pads else layer.cropping
    height, width = shape[0] + sign * (top + bottom), shape[1] + sign * (left + right)
    text = f"{shape[1]} {spelled} {left} {spelled} {right} = {width}"
    if (top, bottom, shape[0]) != (left, right, shape[1]):
        text = f"H: {shape[0]} {spelled} {top} {spelled} {bottom} = {height}; W: {text}"
    return _Result((height, width, shape[2]), text)


def _global_pooling(layer: Any, shapes: tuple[Shape, ...]) -> _Result:
    height, width, depth = shapes[0]
    what = "mean" if "Average" in type(layer).__name__ else "maximum"
    shape = (1, 1, depth) if layer.keepdims else (depth,)
    return _Result(shape, f"{what} of {height}·{width} positions, D = {depth}")


def _flatten(layer: Any, shapes: tuple[Shape, ...]) -> _Result:
    total = math.prod(shapes[0])
    return _Result((total,), f"{'·'.join(map(str, shapes[0]))} = {total}")


def _dense(layer: Any, shapes: tuple[Shape, ...]) -> _Result:
    units = layer.units
    return _Result((*shapes[0][:-1], units), f"D = K = {units}", (), str(units))


def _concatenate(layer: Any, shapes: tuple[Shape, ...]) -> _Result:
    depth = sum(shape[-1] for shape in shapes)
    text = " + ".join(str(shape[-1]) for shape in shapes)
    return _Result((*shapes[0][:-1], depth), f"D = {text} = {depth}")


def _reshape(layer: Any, shapes: tuple[Shape, ...]) -> _Result:
    total = math.prod(shapes[0])
    known = [side for side in layer.target_shape if side != -1]
    filled = total // math.prod(known)
    return _Result(tuple(filled if side == -1 else side for side in layer.target_shape))


def _pad(operation: Any, shapes: tuple[Shape, ...]) -> _Result:
    """Describe the logit 0 that is added to the one logit of a binary head (`classifier.head`)."""
    widths = operation.pad_width[1:]
    ends = zip(shapes[0], widths, strict=True)
    shape = tuple(side + before + after for side, (before, after) in ends)
    return _Result(shape, f"{shapes[0][-1]} + {sum(widths[-1])} = {shape[-1]}")


def _grey(operation: Any, shapes: tuple[Shape, ...]) -> _Result:
    return _Result((*shapes[0][:-1], 1), "D = 1, one grey channel")


_KINDS: Final[dict[str, Callable[[Any, tuple[Shape, ...]], _Result]]] = {
    "Conv2D": _convolution,
    "SeparableConv2D": _convolution,
    "DepthwiseConv2D": _depthwise,
    **dict.fromkeys(_POOLINGS, _pooling),
    "GlobalAveragePooling2D": _global_pooling,
    "GlobalMaxPooling2D": _global_pooling,
    "ZeroPadding2D": _framed,
    "Cropping2D": _framed,
    "Flatten": _flatten,
    "Dense": _dense,
    "Concatenate": _concatenate,
    "Reshape": _reshape,
    "Pad": _pad,
    "RGBToGrayscale": _grey,
}


def _shape(tensor: keras.KerasTensor) -> Shape:
    return tuple(tensor.shape[1:])


def _padding(axis: Axis) -> str:
    same = axis.before == axis.after
    return str(axis.before) if same else f"{axis.before}|{axis.after}"


def _pair(values: Sequence[str]) -> str:
    """Join height and width by ×, or give one value when they are equal."""
    return "×".join(dict.fromkeys(values))
