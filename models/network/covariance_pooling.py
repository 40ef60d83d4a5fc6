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
These axes come with the network or from its weights, and not from the images of a run. So they are
the same in every run, and the features of an image depend on this image alone.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from imgpipe.models.backbones import layer_graph
from imgpipe.models.machine.process import one_blas_thread
from imgpipe.models.names.arrays import Floats
from imgpipe.models.names.model_names import AXES
from imgpipe.models.settings.feature_kinds import COVARIANCE_AXES

if TYPE_CHECKING:
    import keras

#: With so many, heads are as good as with exact square roots; see docs/benchmarks.md, "Constants
#: of the code".
_ITERATIONS: Final = 5
_LEAST_TRACE: Final = 1e-5  # added to the trace, so that a map without variance has a square root
_SEED: Final = 0  # of the axes where no weights give any


def pooled(maps: Sequence[keras.KerasTensor], axes: Sequence[Floats]) -> list[keras.KerasTensor]:
    """Pool feature maps by the square roots of the covariances of their channels.

    Args:
        maps: Feature maps, symbolic [N, h, w, C].
        axes: For each map, the axes to which its channels are projected, float32 [C, d], with the
            same d for all maps.

    Returns:
        For each map, the upper triangle of the square root, float32 [N, d (d + 1) / 2].
    """
    # The layers have names of their own. In a `.keras` file the operations have none, and what
    # Keras calls the operations when it reads the file might be the name of a layer.
    from keras import layers, ops

    dimension = axes[0].shape[1]
    covariances = []
    traces = []
    for number, (feature_map, columns) in enumerate(zip(maps, axes, strict=True)):
        project = layers.Conv2D(
            dimension, 1, use_bias=False, trainable=False, name=f"{AXES}_{number}"
        )
        projected = project(feature_map)
        project.set_weights([columns[None, None]])
        positions = feature_map.shape[1] * feature_map.shape[2]
        # In 16 bits, the covariance would lose most of its digits.
        flattened = layers.Reshape((positions, dimension), dtype="float32", name=f"flat_{number}")
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
        layers.Reshape((len(entries),), dtype="float32", name=f"triangle_{number}")(part)
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


def number_of_axes(network: keras.Model) -> int:
    """Return the number d of axes in a network; 0 if its head reads no covariances."""
    projecting = (layer for layer in network.layers if layer.name.startswith(f"{AXES}_"))
    return next((int(layer.filters) for layer in projecting), 0)


def fixed_axes(
    maps: Sequence[keras.KerasTensor], axes_of_layers: Mapping[str, Floats]
) -> list[Floats]:
    """Return the axes to which the channels of feature maps of a network are projected.

    Where a layer has none in `axes_of_layers`, they are singular vectors of the weights that read
    its map, or, as above the last map, of those that compute it, each times its singular value. So
    an axis counts as much as the network makes of it. Where a map has no such weights, the axes are
    random, and the same in every run.

    Args:
        maps: Feature maps, symbolic [N, h, w, C]: the last one of the network, and lower ones.
        axes_of_layers: Axes that come with the network, float32 [C, D] by the name of the layer,
            the most important ones first.

    Returns:
        For each map, float32 [C, d]. The number d of axes is `COVARIANCE_AXES`, or less if one of
        the maps or its weights have fewer channels.
    """
    order = layer_graph.nodes(maps)
    axes = []
    for feature_map in maps:
        name = layer_graph.layer_name(feature_map)
        if name in axes_of_layers:
            axes.append(axes_of_layers[name])
        else:
            axes.append(_axes_of_weights(order, feature_map))
    dimension = min(COVARIANCE_AXES, *(columns.shape[1] for columns in axes))
    return [columns[:, :dimension] for columns in axes]


def _axes_of_weights(
    order: Sequence[layer_graph.GraphNode], feature_map: keras.KerasTensor
) -> Floats:
    """Return the axes of a map that its weights give, or random ones; see `fixed_axes`."""
    kernel = layer_graph.channel_weights(order, feature_map)
    if kernel is None:
        return _random_axes(feature_map.shape[-1])
    return _singular_axes(kernel.tobytes(), len(kernel))


def _random_axes(channels: int) -> Floats:
    """Return orthonormal axes [C, d]."""
    drawn = np.random.default_rng(_SEED).standard_normal((channels, min(COVARIANCE_AXES, channels)))
    with one_blas_thread():
        return np.linalg.qr(drawn)[0].astype(np.float32)


@functools.lru_cache(maxsize=16)  # a run builds its network several times
def _singular_axes(weights: bytes, channels: int) -> Floats:
    """Return left singular vectors of float32 weights [C, K] times their values, [C, d].

    The scale of the weights does not matter: the largest value is 1. The sign of an axis is that
    with which its largest component is positive.
    """
    from scipy import linalg

    kernel = np.frombuffer(weights, np.float32).reshape(channels, -1).astype(np.float64)
    dimension = min(COVARIANCE_AXES, *kernel.shape)
    few = kernel.shape[1] < channels  # then the products of the columns are the smaller matrix
    with one_blas_thread():
        products = kernel.T @ kernel if few else kernel @ kernel.T
        last = len(products) - 1
        squares, vectors = linalg.eigh(products, subset_by_index=[last + 1 - dimension, last])
        values = np.sqrt(np.maximum(squares, 0.0))
        # The vectors of the columns, times the kernel, are those of the rows times their values.
        axes = kernel @ vectors if few else vectors * values
    axes = axes[:, ::-1] / max(values[-1], np.finfo(np.float32).tiny)
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(dimension)]
    return (axes * np.where(largest < 0, -1, 1)).astype(np.float32)
