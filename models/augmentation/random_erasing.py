"""Random erasing (Zhong et al. 2020): a rectangle of a view is replaced by noise.

Half of the views are unchanged. The area of the rectangle is uniform up to the configured share,
the ratio of its sides is log-uniform in 0.3..3.3, and its position is uniform inside the image.
Keras has a layer of that name, which draws its random numbers for a batch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from imgpipe.models.augmentation import streams
from imgpipe.models.augmentation.colour import WHITE

if TYPE_CHECKING:
    import tensorflow as tf

LEAST: Final = 0.02  # smallest share of the area, unless the largest share is set below it
LONGEST: Final = 1 / 0.3  # largest ratio of the sides


def erase(image: tf.Tensor, seed: tf.Tensor, largest: float) -> tf.Tensor:
    """Fill a rectangle of half of the images with noise; returns the image [S, S, 3].

    Args:
        image: Pixels [S, S, 3] in 0..255.
        seed: Int64 [2]: content hash and number of the view.
        largest: Largest share of the area to erase, 0 to 1.
    """
    import tensorflow as tf

    draw = (streams.uniform(seed, streams.ERASING, 5) + 1) / 2
    whether, area, ratio, down, right = tf.unstack(draw)
    size = tf.shape(image)
    side = tf.cast(size[0], tf.float32)
    least = min(LEAST, largest)
    share = least + area * (largest - least)
    tall = tf.exp((2 * ratio - 1) * math.log(LONGEST) / 2)  # square root of the ratio
    root = tf.sqrt(share)
    # If one side is longer than the image, it is shortened and the other lengthened accordingly.
    height = tf.clip_by_value(root * tall, share, 1.0)
    rows = tf.cast(tf.maximum(height * side, 1.0), tf.int32)
    columns = tf.cast(tf.maximum(share / height * side, 1.0), tf.int32)
    top = tf.cast(down * tf.cast(size[0] - rows + 1, tf.float32), tf.int32)
    left = tf.cast(right * tf.cast(size[1] - columns + 1, tf.float32), tf.int32)

    def erased() -> tf.Tensor:
        noise = tf.random.stateless_uniform(
            [rows, columns, 3], streams.stream(seed, streams.NOISE), 0.0, WHITE, alg="philox"
        )
        band = image[top : top + rows]
        band = tf.concat([band[:, :left], noise, band[:, left + columns :]], axis=1)
        return tf.concat([image[:top], band, image[top + rows :]], axis=0)

    return tf.cond(whether < 0.5, erased, lambda: tf.identity(image))
