"""Brightness, contrast, saturation and hue of a view as one affine map of its colours.

Saturation and hue are changed by the linear maps of the W3C's Filter Effects (feColorMatrix
"saturate" and "hueRotate", also CSS' hue-rotate()), which keep the luminance and leave grey
unchanged. The functions of tf.image convert to HSV and take seven times as long.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from imgpipe.models.augmentation.geometry import COLOUR, uniform
from imgpipe.models.augmentation.spec import ViewSpec

if TYPE_CHECKING:
    import tensorflow as tf

WHITE: Final = 255.0
LUMINANCE: Final = (0.213, 0.715, 0.072)  # of red, green and blue, as in Filter Effects
#: This matrix turns the hue of a colour (red, green, blue) without luminance by 90 degrees.
_QUARTER_TURN: Final = (
    (-0.213, -0.715, 0.928),
    (0.143, 0.140, -0.283),
    (-0.787, 0.715, 0.072),
)


def shift(image: tf.Tensor, seed: tf.Tensor, spec: ViewSpec) -> tf.Tensor:
    """Change the colours of an image.

    Args:
        image: Pixels, float32 [S, S, 3], 0..255.
        seed: Content hash and number of the view, int64 [2].
        spec: Settings of the augmentation.

    Returns:
        The changed pixels, float32 [S, S, 3], 0..255.
    """
    import tensorflow as tf

    brightness, contrast, saturation, hue = tf.unstack(uniform(seed, COLOUR, 4))
    contrast = 1 + contrast * spec.contrast
    matrix = contrast * colour_matrix(
        1 + saturation * spec.saturation, hue * spec.hue * 2 * math.pi
    )
    offset = brightness * spec.brightness * WHITE
    if spec.contrast:  # relative to the mean, which needs one more pass over the pixels
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

    # A colour is its grey part and the rest, which lies in a plane. Saturation stretches the rest,
    # and hue turns it in that plane.
    grey = tf.constant([LUMINANCE] * 3)
    along = tf.eye(3) - grey
    across = tf.constant(_QUARTER_TURN)
    return grey + saturation * (tf.cos(angle) * along + tf.sin(angle) * across)
