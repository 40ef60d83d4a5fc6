"""Decoding and resizing: from the bytes of a file to the pixels that a backbone takes.

Ingest checks, the feature bank, training, the exported graph and the report all come here, so what
is trained on is what is served. Normalisation belongs to the backbone, not here. Only core
TensorFlow ops are used: every function also runs inside a served graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import tensorflow as tf

#: Part of the content address of every feature; raise it when any pixel could come out different.
PREPROCESS_VERSION: Final = "1"

_PARALLEL_DECODES: Final = 32  # images of one request decoded at a time; more only holds memory


def decode(image_bytes: tf.Tensor) -> tf.Tensor:
    """Pixels uint8 [H, W, 3] of one encoded image (scalar string), the first frame of an animation.

    Reads JPEG, PNG, BMP, GIF and WebP; grey, palette, CMYK and 16-bit images become RGB of 8 bits.

    Raises:
        tf.errors.InvalidArgumentError: The bytes are not an image that the op can decode.
    """
    import tensorflow as tf

    pixels = tf.io.decode_image(image_bytes, channels=3, expand_animations=False)
    pixels.set_shape([None, None, 3])
    return pixels


def resize(pixels: tf.Tensor, image_size: int) -> tf.Tensor:
    """Pixels [..., H, W, 3] of any number type to float32 [..., S, S, 3] in 0..255.

    Bilinear, without antialias and without regard to the aspect ratio: in trials neither an
    antialiased resize nor a centre crop was worth its time.
    """
    import tensorflow as tf

    return tf.image.resize(pixels, [image_size, image_size], method="bilinear", antialias=False)


def decode_and_resize(image_bytes: tf.Tensor, image_size: int) -> tf.Tensor:
    """Float32 [S, S, 3] in 0..255 of one encoded image (scalar string)."""
    return resize(decode(image_bytes), image_size)


def whole_pixels(image_bytes: tf.Tensor, image_size: int) -> tf.Tensor:
    """Uint8 [S, S, 3]: `decode_and_resize`, rounded, for models that take resized images."""
    import tensorflow as tf

    return tf.cast(tf.round(decode_and_resize(image_bytes, image_size)), tf.uint8)


def batch_decode(image_bytes: tf.Tensor, image_size: int) -> tf.Tensor:
    """Float32 [N, S, S, 3] in 0..255 of encoded images [N], for graphs; N may be 0."""
    import tensorflow as tf

    return tf.map_fn(
        lambda one: decode_and_resize(one, image_size),
        tf.convert_to_tensor(image_bytes),
        fn_output_signature=tf.TensorSpec([image_size, image_size, 3], tf.float32),
        parallel_iterations=_PARALLEL_DECODES,
    )
