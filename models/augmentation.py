"""Views of an image: view 0 is the image itself, views 1..K are random changes of it.

A view depends only on the content hash of the image and on the number of the view, and not on the
batch, the order, the split or the thread. Therefore the feature bank is reproducible, and a stored
view stays valid. Keras' preprocessing layers draw random numbers for a batch, and a chain of them
resamples the image once for each layer, which takes longer. Here, one affine warp applies rotation,
shifts, shear, zoom, scale and flip. An augmentation of the user's own draws its numbers by itself.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from imgpipe.models.errors import ConfigError
from imgpipe.models.files import source_code
from imgpipe.models.settings.course import BUILDER, ViewSpec

if TYPE_CHECKING:
    import tensorflow as tf

_RANDOMS: Final = 7  # angle, shift x, shift y, shear, zoom x, zoom y, flip


def seeds(hashes: Sequence[str]) -> list[int]:
    """Return the first 64 bits of the content hash (hex) of each image, as int64 [N]."""
    return [int(text[:16], 16) - 2**63 for text in hashes]  # moved into the range of int64


def augment(
    images: tf.Tensor, hashes: tf.Tensor, view: tf.Tensor | int, spec: ViewSpec
) -> tf.Tensor:
    """Compute one view of each image.

    Args:
        images: Pixels, float32 [N, S, S, 3], 0..255.
        hashes: Seeds of the images, int64 [N]; see `seeds`.
        view: Number of the view, or int64 [N] with one number for each image; 0 is the image
            itself.
        spec: Settings of the augmentation.

    Returns:
        The views, float32 [N, S, S, 3], 0..255.
    """
    import tensorflow as tf

    views = tf.broadcast_to(tf.cast(view, tf.int64), tf.shape(hashes))
    seed = tf.stack([hashes, views], axis=1)

    def changed() -> tf.Tensor:
        if not spec.builder:
            return _warp(images, seed, spec)
        own = _of_own(images, spec.builder)
        return tf.where((views > 0)[:, None, None, None], own, images)

    # A batch of view 0 alone, as in validation, skips the warp.
    result = tf.cond(tf.reduce_any(views > 0), changed, lambda: tf.identity(images))
    result.set_shape(images.shape)  # the op of the warp knows no static shape
    return result


@functools.cache
def _own_augmentation(name: str, code: str) -> Callable[..., Any]:
    """Return the user's augmentation; `code` is the fingerprint of its source."""
    import keras

    about = f"{BUILDER}: {name}"
    try:
        made = source_code.user_function(BUILDER, name)()
    except TypeError as error:
        raise ConfigError(f"{about} must take no argument ({error})") from error
    if isinstance(made, keras.layers.Layer):
        layer = made
        return lambda images: layer(images, training=True)
    if not callable(made):
        raise ConfigError(
            f"{about} must return a Keras layer or a function of a batch of images. Received: "
            f"{type(made).__name__}"
        )
    own: Callable[..., Any] = made
    return own


def require_builder(spec: ViewSpec, side: int) -> None:
    """Try the user's augmentation, if there is one, on two black images of `side` pixels.

    Errors in a graph come with many lines of TensorFlow, and only after the images were read.

    Raises:
        ConfigError: It cannot be imported, raises an error, or returns images of another shape.
    """
    import tensorflow as tf

    if spec.builder:
        _of_own(tf.zeros([2, side, side, 3]), spec.builder)


def _of_own(images: tf.Tensor, name: str) -> tf.Tensor:
    """Change a batch by the user's augmentation; see `require_builder` for the errors."""
    import tensorflow as tf

    augmentation = _own_augmentation(name, source_code.function_sha256(BUILDER, name))
    about = f"{BUILDER}: the augmentation of {name}"
    try:
        result = tf.cast(augmentation(images), tf.float32)
    except Exception as error:
        raise ConfigError(f"{about} raised an error ({type(error).__name__}: {error})") from error
    if not result.shape.is_compatible_with(images.shape):
        raise ConfigError(
            f"{about} must return images of the shape that it receives, {images.shape}. Received: "
            f"{result.shape}"
        )
    return tf.clip_by_value(result, 0.0, 255.0)


def _warp(images: tf.Tensor, seeds: tf.Tensor, spec: ViewSpec) -> tf.Tensor:
    """Warps images by random transforms, each in one resampling; view 0 is unchanged.

    The pixels are float32 [N, S, S, 3]. A seed is content hash and number of the view, int64
    [N, 2].
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

    A seed is content hash and view of an image, int64 [N, 2], and the side is float32.
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

    # Philox gives the same numbers on every machine.
    draw = tf.random.stateless_uniform([_RANDOMS], seed, -1.0, 1.0, alg="philox")
    draw = tf.where(seed[1] > 0, draw, 0.0)
    angle, shift_x, shift_y, shear, zoom_x, zoom_y, flip = tf.unstack(draw)
    angle *= math.radians(spec.rotation)
    shift_x = shift_x * spec.shifts * side
    shift_y = shift_y * spec.shifts * side
    shear = shear * spec.shear
    zoom_x = 1 + zoom_x * spec.zoom
    zoom_y = 1 + zoom_y * spec.zoom
    if spec.horizontal_flip:
        zoom_x = tf.where(flip < 0, -zoom_x, zoom_x)
    if spec.scale:
        # Log-uniform, so that half of the images shrink; a draw of its own changes no other view.
        scale_seed = seed + tf.constant([0, 2**32], tf.int64)  # more than the number of views
        draw = tf.random.stateless_uniform([2], scale_seed, -1.0, 1.0, alg="philox")[1]
        size = tf.exp(tf.where(seed[1] > 0, draw, 0.0) * math.log1p(spec.scale))
        zoom_x = zoom_x * size
        zoom_y = zoom_y * size
    cos = tf.cos(angle)
    sin = tf.sin(angle)
    a = cos * zoom_x
    b = (cos * shear - sin) * zoom_y
    d = sin * zoom_x
    e = (sin * shear + cos) * zoom_y
    centre = (side - 1) / 2  # between the centres of the first and of the last pixel
    c = centre - (a + b) * centre + cos * shift_x - sin * shift_y
    f = centre - (d + e) * centre + sin * shift_x + cos * shift_y
    return tf.stack([a, b, c, d, e, f, 0.0, 0.0])
