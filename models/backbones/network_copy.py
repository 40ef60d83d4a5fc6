"""Weights from a local file, and copies of a network.

The network is built by our own code, and Keras' `load_weights` only reads arrays. It runs nothing
from the file, and refuses links, data of other files and shapes that claim more than it holds.
Accepted files are Keras 3 weights (`.weights.h5`), weights of older Keras versions (`.h5`), and
the weights inside a `.keras` archive.

A BatchNorm in inference mode is a scale and an offset for each channel, so both can be included in
the kernel and the bias of the convolution before it; the result is exact to float32 rounding. A
BatchNorm that does not follow a convolution becomes a constant scale and offset. In both cases no
statistics remain that could change while other layers train, as they do in `fit` even if the
network was called with `training=False` (keras-team/keras#20285), and the forward pass is faster.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from imgpipe.models.arrays import Floats
from imgpipe.models.backbones import layer_graph
from imgpipe.models.errors import ResourceError, UnsafeWeightsError

if TYPE_CHECKING:
    import h5py
    import keras

_NORMALISES: Final = ("Rescaling", "Normalization")  # kept in float32 for the precision of pixels


def check_whole(path: Path) -> None:
    """Refuse a file that is cut short or is no file of weights, without reading the weights.

    An UnsafeWeightsError says which. A file that does not exist is passed over: whoever hashes it
    says so.
    """
    import h5py

    if not path.is_file():
        return
    try:
        if path.suffix == ".keras":
            zipfile.ZipFile(path).close()
        else:
            h5py.File(path, "r").close()
    except (OSError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from error


def load(model: keras.Model, path: Path) -> None:
    """Load the weights of a file into the layers of a model.

    A classifier in the file is ignored when the model has none.

    The model has layers of Keras and must not be used after an error. The SHA-256 of the file has
    been checked. It raises a ResourceError if the weights are those of another network, and an
    UnsafeWeightsError if the file is damaged, is a whole model, or holds something that is not
    allowed or not finite.
    """
    try:
        # Keras only warns of models inside the model whose weights it does not find.
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            if path.suffix == ".h5" and not path.name.endswith(".weights.h5"):
                _load_legacy(model, path)
            else:
                model.load_weights(path)
        for message in (str(warning.message) for warning in warned):
            if message.startswith("Skipping nested container"):
                raise _of_another_network(model, path, message)
    except ResourceError:
        raise
    except Exception as error:  # Keras, h5py and zipfile raise errors of many kinds
        if isinstance(error, ValueError) and "Not allowed" not in str(error):
            raise _of_another_network(model, path, str(error)) from error
        raise _damaged(path, error) from error
    for layer in model.layers:
        for weight, array in zip(layer.weights, layer.get_weights(), strict=True):
            if not np.isfinite(array).all():
                raise UnsafeWeightsError(
                    f"{path}: {layer.name}: expected finite numbers. Received: NaN or infinity "
                    f"in {weight.name}; the training that made this file had diverged"
                )


def _load_legacy(model: keras.Model, path: Path) -> None:
    """Load weights of Keras 1 and 2, which are stored by layer, by their order or their names."""
    import h5py

    with h5py.File(path, "r") as file:
        if "model_config" in file.attrs:
            raise UnsafeWeightsError(
                f"{path}: is a whole model; loading one can run code. Expected: its weights alone. "
                "Where you trust the model, load it and call model.save_weights('NAME.weights.h5')"
            )
        stored = [name for name in _strings(file, "layer_names") if _strings(file[name])]
    holders = [layer.name for layer in model.layers if layer.weights]
    # "conv2d_17" of a long session is "conv2d" here, so that the order decides. With a classifier
    # only the names can, and Keras passes over those that it does not find.
    by_name = len(stored) != len(holders)
    missing = sorted(set(holders) - set(stored))
    if by_name and missing:
        raise _of_another_network(model, path, f"the file has no layers {', '.join(missing[:8])}")
    model.load_weights(path, by_name=by_name)


def _damaged(path: Path, error: Exception) -> UnsafeWeightsError:
    return UnsafeWeightsError(
        f"{path}: expected a whole file of Keras weights (.weights.h5, .h5 or .keras). Save or "
        "download it again. Received: one that is damaged or not allowed "
        f"({type(error).__name__}: {_short(str(error))})"
    )


def _of_another_network(model: keras.Model, path: Path, reason: str) -> ResourceError:
    return ResourceError(f"model.weights: {path} is not of {model.name}: {_short(reason)}")


def _short(text: str) -> str:
    return " ".join(text.split())[:300]


def _strings(group: h5py.Group, name: str = "weight_names") -> list[str]:
    """Return a list of names; Keras splits a long list into several attributes."""
    parts: list[Any] = [group.attrs[name]] if name in group.attrs else []
    while f"{name}{len(parts)}" in group.attrs:
        parts.append(group.attrs[f"{name}{len(parts)}"])
    return [text.decode() if isinstance(text, bytes) else text for part in parts for text in part]


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
