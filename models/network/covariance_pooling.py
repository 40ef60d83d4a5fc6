"""Covariance pooling: how the channels of feature maps go together, as features of a head.

The mean of a map over its positions says how much of each pattern an image shows, but not which
patterns occur at the same places. The covariance of the channels over the positions does (bilinear
pooling, Lin et al. 2015, https://arxiv.org/abs/1504.07889). Its matrix square root is a better
feature than the covariance itself, in which a few strong directions outweigh all others (MPN-COV,
Li et al. 2017, https://arxiv.org/abs/1703.08050). A Newton-Schulz iteration approximates it by
products of matrices alone, which have a gradient and exist in every format of an export (iSQRT-COV,
Li et al. 2018, https://arxiv.org/abs/1712.01034).

A map of a thousand channels would have half a million covariances. So its channels are projected to
a few axes first (compact bilinear pooling, Gao et al. 2016, https://arxiv.org/abs/1511.06062).
These are the principal axes of the channels in some of the training images; see
`components/feature_bank/storage.py`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from imgpipe.models import names
from imgpipe.models.arrays import Floats
from imgpipe.models.settings.model import COVARIANCE_AXES
from imgpipe.models.settings.settings import Settings

if TYPE_CHECKING:
    import keras

#: With so many, heads are as good as with exact square roots; see docs/benchmarks.md, "Constants
#: of the code".
_ITERATIONS: Final = 5
_LEAST_TRACE: Final = 1e-5  # added to the trace, so that a map without variance has a square root


def pooled(maps: Sequence[keras.KerasTensor], axes: Sequence[Floats]) -> list[keras.KerasTensor]:
    """Pool feature maps by the square roots of the covariances of their channels.

    The maps are symbolic, [N, h, w, C]. The axes of each, float32 [C, d], are those to which its
    channels are projected, with the same d for all maps (see `number_of_axes`); without any, they
    are random ones, which give way to the weights of a stored network. The upper triangle of each
    square root is returned, float32 [N, d (d + 1) / 2].
    """
    # The layers have names of their own, so that a network that is built again has the same ones.
    from keras import initializers, layers, ops

    dimension = axes[0].shape[1] if axes else number_of_axes(maps)
    random = initializers.Orthogonal(seed=0)
    covariances = []
    traces = []
    for number, feature_map in enumerate(maps):
        project = layers.Conv2D(
            dimension, 1, use_bias=False, kernel_initializer=random, name=f"{names.AXES}{number}"
        )
        project.trainable = False
        projected = project(feature_map)
        if axes:
            project.set_weights([axes[number][None, None]])
        positions = feature_map.shape[1] * feature_map.shape[2]
        # In 16 bits, the covariance would lose most of its digits.
        name = f"{names.FLAT}{number}"
        flattened = layers.Reshape((positions, dimension), dtype="float32", name=name)
        x = flattened(ops.cast(projected, "float32"))
        x = x - ops.mean(x, axis=1, keepdims=True)
        covariances.append(ops.matmul(ops.transpose(x, (0, 2, 1)), x) / positions)
        traces.append(ops.sum(ops.square(x), axis=(1, 2)) / positions + _LEAST_TRACE)
    # The maps are computed together, because a few large products are faster than many small ones.
    trace = ops.reshape(ops.stack(traces, axis=1), (-1, len(maps), 1, 1))
    root = _square_root(ops.stack(covariances, axis=1) / trace) * ops.sqrt(trace)
    row, column = np.triu_indices(dimension)
    entries = row * dimension + column
    triangles = ops.take(ops.reshape(root, (-1, len(maps), dimension**2)), entries, axis=2)
    parts = ops.split(triangles, len(maps), axis=1)
    return [
        layers.Reshape((len(entries),), dtype="float32", name=f"{names.TRIANGLE}{number}")(part)
        for number, part in enumerate(parts)
    ]


def _square_root(matrices: keras.KerasTensor) -> keras.KerasTensor:
    """Return the square roots of symmetric matrices [..., d, d] with eigenvalues from 0 to 1.

    In the coupled iteration of Newton and Schulz, Y goes to the square root and Z to its inverse.
    It begins with Y = A and Z = I, and multiplies both by (3 I - Z Y) / 2 (Higham 2008, "Functions
    of Matrices", section 6.7). An eigenvalue of 0 stays 0.
    """
    from keras import ops

    identity = 1.5 * np.eye(matrices.shape[-1], dtype=np.float32)
    factor = ops.subtract(identity, 0.5 * matrices)
    y = ops.matmul(matrices, factor)
    z = factor
    for iteration in range(1, _ITERATIONS):
        factor = ops.subtract(identity, 0.5 * ops.matmul(z, y))
        y = ops.matmul(y, factor)
        if iteration < _ITERATIONS - 1:
            z = ops.matmul(factor, z)
    return y


def number_of_axes(maps: Sequence[keras.KerasTensor]) -> int:
    """Return the number d of axes of feature maps: of all maps as many as one may have."""
    return min(COVARIANCE_AXES, *(feature_map.shape[-1] for feature_map in maps))


def axes_in(network: keras.Model) -> list[Floats]:
    """Return the axes of each map in a network, [C, d]; none if its head reads no covariances."""
    projecting = (layer for layer in network.layers if layer.name.startswith(names.AXES))
    return [np.asarray(layer.kernel)[0, 0] for layer in projecting]


def read_axes(settings: Settings) -> list[Floats]:
    """Read the axes of the settings, [C, d] of each map; none if the head reads no covariances."""
    if not (settings.axes and settings.reads_covariances):
        return []
    import tensorflow as tf  # not for a plan, which knows no axes yet

    with tf.io.gfile.GFile(settings.axes, "rb") as file, np.load(io.BytesIO(file.read())) as arrays:
        return [arrays[name] for name in arrays if name.startswith("arr_")]  # those without names


def axes_sha256(axes: Sequence[Floats]) -> str:
    """Return the SHA-256 (hex) of axes; "" if there are none."""
    return hashlib.sha256(b"".join(each.tobytes() for each in axes)).hexdigest() if axes else ""
