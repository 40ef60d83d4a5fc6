"""Views of an image: view 0 is the image itself, views 1..K are random changes of it.

A view depends only on the content hash of the image and on the number of the view, and not on the
batch, the order, the split or the thread. Therefore the feature bank is reproducible, and a stored
view stays valid. Keras' preprocessing layers draw random numbers for a batch, and a chain of them
resamples the image once for each layer, which takes longer.

One affine warp applies rotation, shifts, shear, zoom, flips and scale (`geometry`). One affine map
of the colours changes brightness, contrast, saturation and hue (`colour`). Each of them draws from
its own stream of random numbers, so switching one on does not change the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from imgpipe.models.augmentation import colour, geometry
from imgpipe.models.augmentation.spec import ViewSpec

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["ViewSpec", "augment", "seeds"]


def seeds(hashes: Sequence[str]) -> list[int]:
    """Return the first 64 bits of the content hash of each image, as int64 [N].

    Args:
        hashes: Content hash (hex) of each image.
    """
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
        warped = geometry.warp(images, seed, spec)
        return _recoloured(warped, seed, spec) if spec.colours else warped

    # A batch of view 0 alone, as in validation, skips the warp.
    result = tf.cond(tf.reduce_any(views > 0), changed, lambda: tf.identity(images))
    result.set_shape(images.shape)  # the op of the warp knows no static shape
    return result


def _recoloured(images: tf.Tensor, seeds: tf.Tensor, spec: ViewSpec) -> tf.Tensor:
    """Change the colours of each image, [N, S, S, 3].

    The images are processed one at a time. In an operation on the whole batch, the order of
    summation would depend on the batch, and so would the last bits of a view.
    """
    import tensorflow as tf

    def change(pair: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        image, seed = pair
        return tf.cond(
            seed[1] > 0, lambda: colour.shift(image, seed, spec), lambda: tf.identity(image)
        )

    return tf.map_fn(
        change,
        (images, seeds),
        fn_output_signature=tf.TensorSpec(images.shape[1:], tf.float32),
    )
