"""Random erasing (Zhong et al. 2020): a rectangle of a view becomes noise.

Half of the views are left whole; the rectangle's area is uniform up to the share that is set, the
ratio of its sides log-uniform in 0.3..3.3, its place anywhere inside the image. Keras has a layer
of that name, which draws by batch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from imgpipe.models.augmentation import streams
from imgpipe.models.augmentation.colour import WHITE

if TYPE_CHECKING:
    import tensorflow as tf

LEAST: Final = 0.02  # share of the area; of a largest share below it, that share
LONGEST: Final = 1 / 0.3  # ratio of the sides


def erase(image: tf.Tensor, seed: tf.Tensor, largest: float) -> tf.Tensor:
    """Fills a rectangle of half of the images with noise; returns the image [S, S, 3].

    Args:
        image: Pixels [S, S, 3] in 0..255.
        seed: Int64 [2]: content hash and number of the view.
        largest: Largest share of the area to erase, 0 to 1.
    """
    import tensorflow as tf

    draw = tf.unstack((streams.uniform(seed, streams.ERASING, 5) + 1) / 2)
    whether, area, ratio, down, right = draw
    size = tf.shape(image)
    side = tf.cast(size[0], tf.float32)
    least = min(LEAST, largest)
    share = least + area * (largest - least)
    tall = tf.exp((2 * ratio - 1) * math.log(LONGEST) / 2)  # square root of the ratio
    root = tf.sqrt(share)
    # A side that is longer than the image is cut, and the other lengthened to keep the area.
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
