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
    """Decode one image, and the first frame of an animation, to 8-bit RGB.

    JPEG, PNG, BMP, GIF and WebP can be decoded. Grey, palette, CMYK and 16-bit images are
    converted. The op ignores the palette of a BMP, and takes its indices for grey values.

    Args:
        image_bytes: The encoded image, a string scalar.

    Returns:
        The pixels, uint8 [H, W, 3].

    Raises:
        tf.errors.InvalidArgumentError: The bytes are not an image that the op can decode.
    """
    import tensorflow as tf

    # With `expand_animations`, a GIF would have a fourth axis for its frames.
    pixels = tf.io.decode_image(image_bytes, channels=3, expand_animations=False)
    pixels.set_shape([None, None, 3])  # the op leaves it open, and `resize` has to know the rank
    return pixels


def resize(pixels: tf.Tensor, image_size: int) -> tf.Tensor:
    """Resizes images to squares, bilinearly, without antialiasing and ignoring the aspect ratio.

    In trials, neither antialiasing nor a centre crop improved accuracy enough to justify its time.

    Args:
        pixels: Images of any number type, [..., H, W, 3], 0..255.
        image_size: Side S of the result in pixels.

    Returns:
        The resized images, float32 [..., S, S, 3], 0..255.
    """
    import tensorflow as tf

    return tf.image.resize(pixels, [image_size, image_size], method="bilinear", antialias=False)


def decode_and_resize(image_bytes: tf.Tensor, image_size: int) -> tf.Tensor:
    """Decode and resize one image.

    Args:
        image_bytes: The encoded image, a string scalar.
        image_size: Side S of the result in pixels.

    Returns:
        The pixels, float32 [S, S, 3], 0..255.
    """
    return resize(decode(image_bytes), image_size)


def whole_pixels(image_bytes: tf.Tensor, image_size: int) -> tf.Tensor:
    """Decode and resize one image, and round its pixels, for models that take resized images.

    Args:
        image_bytes: The encoded image, a string scalar.
        image_size: Side S of the result in pixels.

    Returns:
        The pixels, uint8 [S, S, 3].
    """
    import tensorflow as tf

    # A cast alone would cut off the fractions, which darkens the image by half a level.
    return tf.cast(tf.round(decode_and_resize(image_bytes, image_size)), tf.uint8)


def batch_decode(image_bytes: tf.Tensor, image_size: int) -> tf.Tensor:
    """Decode and resize a batch of images inside a graph.

    Args:
        image_bytes: The encoded images, string [N]; N may be 0.
        image_size: Side S of the result in pixels.

    Returns:
        The pixels, float32 [N, S, S, 3], 0..255.
    """
    import tensorflow as tf

    # The op decodes one image at a time, and the images of a batch differ in size until resized.
    return tf.map_fn(
        lambda image: decode_and_resize(image, image_size),
        tf.convert_to_tensor(image_bytes),
        fn_output_signature=tf.TensorSpec([image_size, image_size, 3], tf.float32),
        parallel_iterations=_PARALLEL_DECODES,
    )
