"""Rotation, shifts, shear, zoom, flips and scale of a view as one affine warp."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from imgpipe.models.augmentation.spec import ViewSpec

if TYPE_CHECKING:
    import tensorflow as tf

#: Numbers of the streams of random numbers. The first one, for the warp of the course, uses the
#: seeds unchanged.
COURSE, GEOMETRY, COLOUR = range(3)
_APART: Final = 2**32  # exceeds the number of views, so that no two streams share a seed
_RANDOMS: Final = 7  # angle, shift x, shift y, shear, zoom x, zoom y, flip


def uniform(seed: tf.Tensor, stream: int, count: int) -> tf.Tensor:
    """Draws numbers in [-1, 1) from one of the streams, float32 [count].

    The algorithm is philox, which gives the same numbers on every machine.

    Args:
        seed: Content hash and number of the view, int64 [2].
        stream: Number of the stream.
        count: Number of values.
    """
    import tensorflow as tf

    if stream:
        seed = seed + tf.constant([0, stream * _APART], tf.int64)
    return tf.random.stateless_uniform([count], seed, -1.0, 1.0, alg="philox")


def warp(images: tf.Tensor, seeds: tf.Tensor, spec: ViewSpec) -> tf.Tensor:
    """Warps images by random transforms, each in one resampling; view 0 is unchanged.

    Args:
        images: Pixels, float32 [N, S, S, 3].
        seeds: Content hash and number of the view of each image, int64 [N, 2].
        spec: Settings of the augmentation.

    Returns:
        The warped pixels, float32 [N, S, S, 3].
    """
    import tensorflow as tf

    side = tf.cast(tf.shape(images)[1], tf.float32)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=projective_transforms(seeds, side, spec),
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode=spec.fill.upper(),
    )


def projective_transforms(seeds: tf.Tensor, side: tf.Tensor, spec: ViewSpec) -> tf.Tensor:
    """Return the transforms [N, 8] of N images in the format of ImageProjectiveTransformV3.

    Each transform is computed by itself. Computed for a whole batch, sine and cosine would be
    rounded differently in vector registers than in the remainder of the batch, so that a view would
    depend on its position in the batch.

    Args:
        seeds: Content hash and view of each image, int64 [N, 2].
        side: Width and height of the images in pixels, float32 scalar.
        spec: The ranges of the transforms.
    """
    import tensorflow as tf

    return tf.map_fn(
        lambda seed: _transform(seed, side, spec),
        seeds,
        fn_output_signature=tf.TensorSpec([8], tf.float32),
    )


def _transform(seed: tf.Tensor, side: tf.Tensor, spec: ViewSpec) -> tf.Tensor:
    """Return the transform [8] from output pixels to input pixels (x, y).

    The format is that of ImageProjectiveTransformV3. As in Keras' ImageDataGenerator, input - c =
    Rotation · (Shear · Zoom · (output - c) + shift), where c is the centre. View 0 (second half of
    the seed) has exactly the identity.
    """
    import tensorflow as tf

    draw = tf.where(seed[1] > 0, uniform(seed, COURSE, _RANDOMS), 0.0)
    angle, shift_x, shift_y, shear, zoom_x, zoom_y, flip = tf.unstack(draw)
    angle *= math.radians(spec.rotation)
    shift_x, shift_y = shift_x * spec.shifts * side, shift_y * spec.shifts * side
    shear, zoom_x, zoom_y = shear * spec.shear, 1 + zoom_x * spec.zoom, 1 + zoom_y * spec.zoom
    if spec.horizontal_flip:
        zoom_x = tf.where(flip < 0, -zoom_x, zoom_x)
    if spec.vertical_flip or spec.scale:
        # A stream of its own, so that switching these on changes none of the other random numbers.
        flip, scale = tf.unstack(tf.where(seed[1] > 0, uniform(seed, GEOMETRY, 2), 0.0))
        if spec.vertical_flip:
            zoom_y = tf.where(flip < 0, -zoom_y, zoom_y)
        scale = tf.exp(scale * math.log1p(spec.scale))  # log-uniform, so that half of them shrink
        zoom_x, zoom_y = zoom_x * scale, zoom_y * scale
    cos, sin = tf.cos(angle), tf.sin(angle)
    a, b = cos * zoom_x, (cos * shear - sin) * zoom_y
    d, e = sin * zoom_x, (sin * shear + cos) * zoom_y
    centre = (side - 1) / 2  # between the centres of the first and of the last pixel
    c = centre - (a + b) * centre + cos * shift_x - sin * shift_y
    f = centre - (d + e) * centre + sin * shift_x + cos * shift_y
    return tf.stack([a, b, c, d, e, f, 0.0, 0.0])
