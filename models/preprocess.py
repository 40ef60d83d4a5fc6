"""Decoding and resizing: from the bytes of an image file to the pixels that a backbone takes.

The checks at ingestion, the feature bank, training, the exported graph and the report all use these
functions, so the model is trained on the same pixels that it is served with. Normalisation is part
of the backbone. Only core TensorFlow ops are used, so every function can run inside a served graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import tensorflow as tf

_PARALLEL_DECODES: Final = 32  # images of one request that are decoded at once, to limit memory


def decode(image_bytes: tf.Tensor) -> tf.Tensor:
    """Decode one image, and the first frame of an animation, to 8-bit RGB, uint8 [H, W, 3].

    JPEG, PNG, BMP, GIF and WebP can be decoded. Grey, palette, CMYK and 16-bit images are
    converted. The op ignores the palette of a BMP, and takes its indices for grey values. Other
    bytes raise an InvalidArgumentError when the op runs.
    """
    import tensorflow as tf

    # With `expand_animations`, a GIF would have a fourth axis for its frames.
    pixels = tf.io.decode_image(image_bytes, channels=3, expand_animations=False)
    pixels.set_shape([None, None, 3])  # the op leaves it open, and `resize` has to know the rank
    return pixels


def resize(pixels: tf.Tensor, image_size: int) -> tf.Tensor:
    """Resizes images of any number type, [..., H, W, 3], to squares, float32 [..., S, S, 3].

    The interpolation is bilinear, without antialiasing, and ignores the aspect ratio. In trials,
    neither antialiasing nor a centre crop improved accuracy enough to justify its time.
    """
    import tensorflow as tf

    return tf.image.resize(pixels, [image_size, image_size], method="bilinear", antialias=False)


def decode_and_resize(image_bytes: tf.Tensor, image_size: int) -> tf.Tensor:
    """Decode and resize one image to float32 [S, S, 3], 0..255."""
    return resize(decode(image_bytes), image_size)


def whole_pixels(image_bytes: tf.Tensor, image_size: int) -> tf.Tensor:
    """Decode and resize one image to uint8 [S, S, 3], for models that take resized images."""
    import tensorflow as tf

    # A cast alone would cut off the fractions, which darkens the image by half a level.
    return tf.cast(tf.round(decode_and_resize(image_bytes, image_size)), tf.uint8)


def batch_decode(image_bytes: tf.Tensor, image_size: int) -> tf.Tensor:
    """Decode and resize images, string [N], to float32 [N, S, S, 3]; N may be 0."""
    import tensorflow as tf

    # The op decodes one image at a time, and the images of a batch differ in size until resized.
    return tf.map_fn(
        lambda image: decode_and_resize(image, image_size),
        tf.convert_to_tensor(image_bytes),
        fn_output_signature=tf.TensorSpec([image_size, image_size, 3], tf.float32),
        parallel_iterations=_PARALLEL_DECODES,
    )
