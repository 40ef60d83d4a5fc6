"""Brightness, contrast, saturation and hue of a view as one affine map of its colours.

Saturation and hue are the linear ones of the W3C's Filter Effects (feColorMatrix "saturate" and
"hueRotate", also CSS' hue-rotate()): luminance stays and grey stays grey. tf.image's go through
HSV and cost seven times as much for the same purpose.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from imgpipe.models.augmentation import streams
from imgpipe.models.augmentation.spec import ViewSpec

if TYPE_CHECKING:
    import tensorflow as tf

WHITE: Final = 255.0
LUMINANCE: Final = (0.213, 0.715, 0.072)
#: Of a colour (red, green, blue) that has no luminance: the same a quarter of the circle on.
_QUARTER_TURN: Final = (
    (-0.213, -0.715, 0.928),
    (0.143, 0.140, -0.283),
    (-0.787, 0.715, 0.072),
)


def shift(image: tf.Tensor, seed: tf.Tensor, spec: ViewSpec) -> tf.Tensor:
    """Changes the colours of an image [S, S, 3] in 0..255 by a seed [2] (content hash, view)."""
    import tensorflow as tf

    brightness, contrast, saturation, hue = tf.unstack(streams.uniform(seed, streams.COLOUR, 4))
    contrast = 1 + contrast * spec.contrast
    matrix = contrast * colour_matrix(
        1 + saturation * spec.saturation, hue * spec.hue * 2 * math.pi
    )
    offset = brightness * spec.brightness * WHITE
    if spec.contrast:  # about the mean, which needs one more pass over the pixels
        mean = tf.tensordot(tf.reduce_mean(image, [0, 1]), tf.constant(LUMINANCE), 1)
        offset += (1 - contrast) * mean
    pixels = tf.matmul(tf.reshape(image, [-1, 3]), matrix, transpose_b=True) + offset
    return tf.reshape(tf.clip_by_value(pixels, 0.0, WHITE), tf.shape(image))


def colour_matrix(saturation: tf.Tensor, angle: tf.Tensor) -> tf.Tensor:
    """Return the matrix [3, 3] that changes the saturation and turns the hue of a colour.

    Each row has the shares of red, green and blue in one channel of the result and sums to 1.

    Args:
        saturation: Factor of the saturation, scalar; 1 leaves it unchanged.
        angle: Angle of the turn in radians, scalar.
    """
    import tensorflow as tf

    grey = tf.constant([LUMINANCE] * 3)
    along = tf.eye(3) - grey
    across = tf.constant(_QUARTER_TURN)
    return grey + saturation * (tf.cos(angle) * along + tf.sin(angle) * across)
