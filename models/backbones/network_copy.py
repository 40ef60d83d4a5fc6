"""Copies of a network on another input, with BatchNorm folded in and stable layer names.

A BatchNorm in inference mode is a scale and an offset for each channel, so both can be included in
the kernel and the bias of the convolution before it; the result is exact to float32 rounding. A
BatchNorm that does not follow a convolution becomes a constant scale and offset. In both cases no
statistics remain that could change while other layers train, as they do in `fit` even if the
network was called with `training=False` (keras-team/keras#20285), and the forward pass is faster.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from imgpipe.models.backbones import layer_graph
from imgpipe.models.errors import UnsafeWeightsError
from imgpipe.models.names.arrays import Floats

if TYPE_CHECKING:
    import keras


_NORMALISES: Final = ("Rescaling", "Normalization")  # kept in float32 for the precision of pixels


def rebuild(
    source: keras.Model, pixels: keras.KerasTensor, trainable: bool, fold: bool
) -> list[keras.KerasTensor]:
    """Build a copy of a network on another input.

    The input has the shape of the source's. BatchNorm is folded into the convolutions, or copied.
    """
    import keras

    rebuilding = _Rebuilding(source, trainable, fold)
    copy = keras.models.clone_model(
        source,
        input_tensors=[pixels] if isinstance(source.input, list) else pixels,
        clone_function=rebuilding.layer,
        call_function=rebuilding.call,
    )
    return list(copy.outputs)


def of_keras(source: keras.Model) -> bool:
    """Return whether all layers are Keras' own, which can be created again from their settings.

    Several layers of KerasHub cannot: their settings contain others than their constructors take.
    """
    return all(type(layer).__module__.startswith("keras.") for layer in source.layers)


class _Rebuilding:
    """Creates each layer of the copy, and gives it its weights as soon as it is built."""

    def __init__(self, source: keras.Model, trainable: bool, fold: bool) -> None:
        self._trainable = trainable
        self._fold = fold
        # All of these are keyed by the `id` of a layer, since names may occur twice.
        self._folds = _foldable(source) if fold else {}
        self._skipped = {id(norm) for norm in self._folds.values()}
        self._values: dict[int, list[Floats]] = {}
        self._affines: set[int] = set()

    def layer(self, layer: Any) -> Any:
        """Return the layer that replaces this one in the copy."""
        import keras

        if not isinstance(layer, keras.layers.Layer):
            return layer  # an operation such as an addition, which has no weights
        if self._fold and isinstance(layer, keras.layers.BatchNormalization):
            # `clone_model` wants a layer in its place, which `call` then passes over.
            return layer if id(layer) in self._skipped else self._affine(layer)
        config = layer.get_config()
        values = layer.get_weights()
        norm = self._folds.get(id(layer))
        if norm is not None:
            config["use_bias"] = True
            values = _folded(layer, norm)
        if type(layer).__name__ in _NORMALISES:
            config["dtype"] = "float32"
        copy = type(layer).from_config(config)
        copy.trainable = self._trainable
        self._values[id(copy)] = values
        return copy

    def call(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the output of the layer, or its input where the layer was folded away."""
        if id(layer) in self._skipped:
            return args[0]
        if id(layer) in self._affines:
            return layer(args[0])  # without the mask that BatchNorm also takes
        output = layer(*args, **kwargs)  # the first call builds the layer, so that it has weights
        values = self._values.pop(id(layer), None)
        if values:
            set_weights(layer, values)
        return output

    def _affine(self, norm: Any) -> Any:
        import keras

        factors = [value.astype(np.float32).tolist() for value in _scale_and_offset(norm)]
        layer = keras.layers.Rescaling(*factors, dtype="float32", name=norm.name)
        self._affines.add(id(layer))
        return layer


def set_weights(layer: Any, arrays: Sequence[npt.NDArray[Any]]) -> None:
    """Set the weights of a built layer, and the constants that Normalization derives from them.

    The layers inside the layer are included. A ValueError is raised if the number of arrays or a
    shape differs from `layer.weights`.
    """
    layer.set_weights(arrays)
    for inner in layer._flatten_layers():
        if hasattr(inner, "finalize_state"):
            inner.finalize_state()


def _scale_and_offset(norm: Any) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the scale and the offset of a BatchNorm in inference mode, each float64 [C]."""
    mean, variance = (
        np.asarray(value, np.float64) for value in (norm.moving_mean, norm.moving_variance)
    )
    if not (variance + norm.epsilon > 0).all():
        raise UnsafeWeightsError(
            f"weights file: the variance of {norm.name} is negative or NaN, which no training gives"
        )
    scale = 1 / np.sqrt(variance + norm.epsilon)
    if norm.scale:
        scale = scale * np.asarray(norm.gamma, np.float64)
    offset = -mean * scale
    if norm.center:
        offset = offset + np.asarray(norm.beta, np.float64)
    return scale, offset


def name_stably(model: keras.Model) -> None:
    """Renumbers the layers that Keras named itself, from 0 and in the order of their creation.

    Keras counts unnamed layers of the whole process: "conv2d_17" in one model is "conv2d_111" in
    the next. Afterwards the names are those that a new process would give.
    """
    counted: dict[str, list[tuple[int, Any]]] = {}
    for layer in model.layers:
        # A class name as Keras uses it for layers, such as conv2d or re_lu.
        kind = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)
        kind = re.sub("([a-z])([A-Z])", r"\1_\2", kind).lower()
        match = re.fullmatch(rf"{kind}(?:_(\d+))?", layer.name)
        if match:
            counted.setdefault(kind, []).append((int(match[1] or 0), layer))  # "conv2d" is number 0
    for kind, layers in counted.items():
        for number, (_, layer) in enumerate(sorted(layers, key=lambda counter: counter[0])):
            layer.name = f"{kind}_{number}" if number else kind


def _foldable(model: keras.Model) -> dict[int, Any]:
    """Return the BatchNorms that can be folded, by the id of the linear convolution before each.

    The BatchNorm must be the only layer that reads the convolution's output.
    """
    import keras

    layers = keras.layers
    kinds = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D, layers.Dense)
    order = layer_graph.nodes(model.outputs)
    uses = Counter(id(node.operation) for node in order)
    readers: dict[int, list[Any]] = {}
    for node in order:
        for read in node.reads:
            readers.setdefault(read, []).append(node.operation)
    ends = {id(tensor) for tensor in model.outputs}
    norms = {}
    for position, node in enumerate(order):
        layer = node.operation
        after = readers.get(position, [])
        if (
            type(layer) in kinds  # a class derived from one may use its kernel in another way
            and layer.activation is keras.activations.linear
            and len(after) == 1
            and isinstance(after[0], keras.layers.BatchNormalization)
            and after[0].axis in (-1, 3)  # the channels, as in the last axis of the kernel
            and uses[id(layer)] == uses[id(after[0])] == 1  # a shared layer has one kernel for all
            and not any(id(tensor) in ends for tensor in node.outputs)
        ):
            norms[id(layer)] = after[0]
    return norms


def _folded(layer: Any, norm: Any) -> list[Floats]:
    """Return the weights of a layer, including a bias, that also perform its BatchNorm."""
    import keras

    scale, offset = _scale_and_offset(norm)
    values = [np.asarray(value, np.float64) for value in layer.get_weights()]
    bias = values.pop() if layer.use_bias else 0.0
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        values[-1] = values[-1] * scale.reshape(values[-1].shape[2:])
    else:
        values[-1] = values[-1] * scale  # the last axis has the output channels
    return [value.astype(np.float32) for value in (*values, bias * scale + offset)]
