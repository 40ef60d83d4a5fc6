"""Random numbers of a view: several independent streams from one seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import tensorflow as tf

#: Numbers of the streams. The first one, for the warp of the course, uses the seeds unchanged.
COURSE, GEOMETRY, COLOUR = range(3)
_APART: Final = 2**32  # exceeds the number of views, so that no two streams share a seed


def stream(seed: tf.Tensor, number: int) -> tf.Tensor:
    """Return the seed of one stream, int64 [2].

    Args:
        seed: Content hash and number of the view, int64 [2].
        number: Number of the stream.
    """
    import tensorflow as tf

    return seed + tf.constant([0, number * _APART], tf.int64) if number else seed


def uniform(seed: tf.Tensor, number: int, count: int) -> tf.Tensor:
    """Draws numbers in [-1, 1) from a stream, float32 [count].

    The algorithm is philox, which gives the same numbers on every machine.

    Args:
        seed: Content hash and number of the view, int64 [2].
        number: Number of the stream.
        count: Number of values.
    """
    import tensorflow as tf

    return tf.random.stateless_uniform([count], stream(seed, number), -1.0, 1.0, alg="philox")
