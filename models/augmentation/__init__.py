"""Views of an image: view 0 is the image itself, views 1..K are random changes of it.

A view depends on the image's content hash and the view's number and on nothing else (not on the
batch, the order, the split or the thread), so the feature bank is reproducible and a stored view
stays valid. Keras' preprocessing layers draw by batch, and a chain of them resamples the image
once for each: some four times the work (``python -m benchmarks.augmentation``).

An affine warp holds rotation, shifts, shear, zoom, flips and scale (`geometry`), an affine map of
the colours brightness, contrast, saturation and hue (`colour`); `erasing` cuts a rectangle out.
Each draws from a stream of its own: turning one on leaves the others as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from imgpipe.models.augmentation import colour, erasing, geometry
from imgpipe.models.augmentation.spec import AUGMENTATION_VERSION, ViewSpec

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["AUGMENTATION_VERSION", "ViewSpec", "augment", "seeds"]


def seeds(hashes: Sequence[str]) -> list[int]:
    """Returns int64 [N]: the first 64 bits of the content hash (hex) of each image."""
    return [int(text[:16], 16) - 2**63 for text in hashes]


def augment(
    images: tf.Tensor, hashes: tf.Tensor, view: tf.Tensor | int, spec: ViewSpec
) -> tf.Tensor:
    """Computes a view of each image.

    Args:
        images: Float32 [N, S, S, 3] in 0..255.
        hashes: Int64 [N], see `seeds`.
        view: The view's number, or int64 [N] of one number for each image; 0 is the image itself.
        spec: Settings of the augmentation.

    Returns:
        Float32 [N, S, S, 3] in 0..255.
    """
    import tensorflow as tf

    views = tf.broadcast_to(tf.cast(view, tf.int64), tf.shape(hashes))
    seed = tf.stack([hashes, views], axis=1)

    def changed() -> tf.Tensor:
        warped = geometry.warp(images, seed, spec)
        return _one_by_one(warped, seed, spec) if spec.colours or spec.erasing else warped

    result = tf.cond(tf.reduce_any(views > 0), changed, lambda: tf.identity(images))
    result.set_shape(images.shape)
    return result


def _one_by_one(images: tf.Tensor, seeds: tf.Tensor, spec: ViewSpec) -> tf.Tensor:
    """[N, S, S, 3]: colours and erasing, each image by itself.

    Over the whole batch at once a product or a mean would be summed in an order that depends on
    the batch, and so would the last bits of a view.
    """
    import tensorflow as tf

    def change(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        if spec.colours:
            image = colour.shift(image, seed, spec)
        return erasing.erase(image, seed, spec.erasing) if spec.erasing else image

    def one(given: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        image, seed = given
        return tf.cond(seed[1] > 0, lambda: change(image, seed), lambda: tf.identity(image))

    return tf.map_fn(
        one, (images, seeds), fn_output_signature=tf.TensorSpec(images.shape[1:], tf.float32)
    )
