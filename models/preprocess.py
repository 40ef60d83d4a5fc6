"""Decoding and resizing: from the bytes of an image file to the pixels that a backbone takes.

The checks at ingestion, the feature bank, training, the exported graph and the report all use these
functions, so the model is trained on the same pixels that it is served with. Normalisation is part
of the backbone. Only core TensorFlow ops are used, so every function can run inside a served graph.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import tensorflow as tf

_PARALLEL_DECODES: Final = 32  # images of one request that are decoded at once, to limit memory
_EXIF_WITHIN: Final = 1024  # bytes of a JPEG in which the Exif orientation is looked for


def decode(image_bytes: tf.Tensor, image_size: int | None = None) -> tf.Tensor:
    """Decode one image, and the first frame of an animation, to 8-bit RGB, uint8 [H, W, 3].

    With an `image_size` S, the image is resized to float32 [S, S, 3], 0..255.

    JPEG, PNG, BMP, GIF and WebP can be decoded. Grey, palette, CMYK and 16-bit images are
    converted. The op ignores the palette of a BMP, and takes its indices for grey values. Other
    bytes raise an InvalidArgumentError when the op runs. A JPEG is turned by the Exif orientation
    in its first kilobyte, if there is one; other formats stay as they are stored.

    Examples:
        >>> from pathlib import Path
        >>> image = Path("rock.jpg").read_bytes()
        >>> decode(image).shape
        TensorShape([160, 160, 3])
        >>> decode(image, 224).dtype
        tf.float32
    """
    import tensorflow as tf

    # With `expand_animations`, a GIF would have a fourth axis for its frames.
    pixels = tf.io.decode_image(image_bytes, channels=3, expand_animations=False)
    pixels.set_shape([None, None, 3])  # the op leaves it open, and `resize` has to know the rank
    if image_size:  # first, because it takes long to turn the millions of pixels of a phone
        pixels = resize(pixels, image_size)
    image_bytes = tf.convert_to_tensor(image_bytes)
    # Outside of a graph, the call takes as long as decoding a small photograph.
    if tf.executing_eagerly() and b"Exif" not in image_bytes.numpy()[:_EXIF_WITHIN]:
        return pixels
    return _upright(image_size)(pixels, image_bytes)


@functools.cache
def _upright(side: int | None) -> tf.types.experimental.GenericFunction:
    """Return the turning of the pixels that `decode` returns by the Exif segment of their file."""
    import tensorflow as tf

    def orientation(before: tf.Tensor, tiff: tf.Tensor) -> tf.Tensor:
        """Read the first directory (Exif 3.0, 4.5 and 4.6); 1, which is upright, for odd ones."""
        marker = tf.strings.substr(before, tf.maximum(tf.strings.length(before) - 4, 0), 2)
        little = tf.strings.substr(tiff, 0, 2) == b"II"
        orders = [
            tf.io.decode_raw(tiff, tf.uint16, little_endian, _EXIF_WITHIN)
            for little_endian in (True, False)
        ]
        words = tf.cast(tf.where(little, *orders), tf.int32)
        high = tf.where(little, words[3], words[2])
        low = tf.where(little, words[2], words[3])
        fields = words[low // 2 :]  # after a word that holds their number, six words each
        fields = fields[1 : 1 + 6 * tf.reduce_sum(fields[:1])]
        fields = tf.reshape(fields[: tf.size(fields) // 6 * 6], [-1, 6])
        tag, kind, high_count, low_count, value, _ = tf.unstack(fields, axis=1)
        is_orientation = (tag == 0x0112) & (kind == 3) & (high_count + low_count == 1)  # one SHORT
        turn = tf.reduce_sum(tf.where(is_orientation, value, 0))
        is_exif = (marker == b"\xff\xe1") & (little | (words[0] == 0x4D4D)) & (words[1] == 42)
        is_valid = is_exif & (high == 0) & (low % 2 == 0) & (turn >= 1) & (turn <= 8)
        return tf.where(is_valid, turn, 1)

    def turned(pixels: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
        stored = tf.cond(turn >= 5, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
        # The axes, rows and columns, that are then reversed.
        axes = [tf.reduce_any(turn == turns) for turns in ([3, 4, 7, 8], [2, 3, 6, 7])]
        return tf.reverse(stored, tf.boolean_mask([0, 1], axes))

    def upright(pixels: tf.Tensor, image_bytes: tf.Tensor) -> tf.Tensor:
        start = tf.strings.substr(image_bytes, 0, _EXIF_WITHIN)
        parts = tf.strings.split(start, b"Exif\0\0", maxsplit=1)
        has_exif = (tf.strings.substr(start, 0, 3) == b"\xff\xd8\xff") & (tf.size(parts) == 2)
        turn = tf.cond(has_exif, lambda: orientation(parts[0], parts[1]), lambda: 1)
        return tf.cond(turn > 1, lambda: turned(pixels, turn), lambda: pixels)

    # Compiled, because outside of a graph these operations would take milliseconds.
    pixels = tf.TensorSpec([side, side, 3], tf.float32 if side else tf.uint8)
    spec = [pixels, tf.TensorSpec([], tf.string)]
    return tf.function(upright, input_signature=spec, autograph=False, jit_compile=False)


def resize(pixels: tf.Tensor, image_size: int) -> tf.Tensor:
    """Resizes images of any number type, [..., H, W, 3], to squares, float32 [..., S, S, 3].

    The interpolation is bilinear, without antialiasing, and ignores the aspect ratio. In trials,
    neither antialiasing nor a centre crop improved accuracy enough to justify its time.
    """
    import tensorflow as tf

    return tf.image.resize(pixels, [image_size, image_size], method="bilinear", antialias=False)


def whole_pixels(image_bytes: tf.Tensor, image_size: int) -> tf.Tensor:
    """Decode and resize one image to uint8 [S, S, 3], for models that take resized images."""
    import tensorflow as tf

    # A cast alone would cut off the fractions, which darkens the image by half a level.
    return tf.cast(tf.round(decode(image_bytes, image_size)), tf.uint8)


def batch_decode(image_bytes: tf.Tensor, image_size: int) -> tf.Tensor:
    """Decode and resize images, string [N], to float32 [N, S, S, 3]; N may be 0."""
    import tensorflow as tf

    # The op decodes one image at a time, and the images of a batch differ in size until resized.
    return tf.map_fn(
        lambda image: decode(image, image_size),
        tf.convert_to_tensor(image_bytes),
        fn_output_signature=tf.TensorSpec([image_size, image_size, 3], tf.float32),
        parallel_iterations=_PARALLEL_DECODES,
    )
