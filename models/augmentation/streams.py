"""Random numbers of a view: several independent streams from one seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import tensorflow as tf

#: The first, the course's warp, has the plain seeds.
COURSE, GEOMETRY, COLOUR, ERASING, NOISE = range(5)
_APART: Final = 2**32  # more than there are views, so that no two streams share a seed


def stream(seed: tf.Tensor, number: int) -> tf.Tensor:
    """Returns the seed int64 [2] (content hash, view) of one stream."""
    import tensorflow as tf

    return seed + tf.constant([0, number * _APART], tf.int64) if number else seed


def uniform(seed: tf.Tensor, number: int, count: int) -> tf.Tensor:
    """Draws [count] numbers in [-1, 1) from a stream; philox gives the same on every machine."""
    import tensorflow as tf

    return tf.random.stateless_uniform([count], stream(seed, number), -1.0, 1.0, alg="philox")
