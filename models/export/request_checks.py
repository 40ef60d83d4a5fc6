"""Checks of what a request sends, inside the graph, so that every server gives the same answer.

TensorFlow Serving does not compare the shape of a value with the signature. Without these checks,
the first operation that cannot use the value would answer, about the inside of the network.

The messages have no quotation marks, because the op that raises them would escape these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from imgpipe.models.names import feature_names as names

if TYPE_CHECKING:
    import tensorflow as tf

PIXELS: Final = "pixels"
EXAMPLES: Final = "examples"

_CHANNELS: Final = 3
_TEXT_WITHIN: Final = 64
"""Bytes of a file in which text is recognised: the header of every format has other bytes there."""
_SHOWN: Final = 40
"""Bytes of a text that a message quotes."""
#: Printable characters and white space in UTF-8. Behind 15 of them, which have 60 bytes at most,
#: the beginning of another one may be cut off.
_PRINTABLE: Final = r"[^\x00-\x08\x0e-\x1f\x7f-\x{9f}]"
_TEXT: Final = rf"(?s){_PRINTABLE}+|{_PRINTABLE}{{15,}}\C{{1,3}}"


def image_files(image_bytes: tf.Tensor) -> tf.Tensor:
    """Return the encoded images of a request, string [N], after checks of their shape and content.

    Args:
        image_bytes: What was sent: string [N], or string [] for a single image.
    """
    return _no_text(_list_of(image_bytes, names.IMAGE_BYTES, "image files"))


def serialized_examples(examples: tf.Tensor) -> tf.Tensor:
    """Return the tf.Examples of a request, string [N], after checks of their shape and content."""
    import tensorflow as tf

    listed = _list_of(examples, EXAMPLES, "serialized tf.Examples")
    # The key of its only field, which is written first. An empty tf.Example has no bytes.
    first = tf.strings.substr(listed, 0, 1)
    is_other = (first != b"\n") & (first != b"")

    def message() -> tf.Tensor:
        return tf.strings.format(
            "examples: expected serialized tf.Examples. Received in row {}: other bytes. Send "
            "image files to the signature serving_default.",
            _first_row(is_other),
        )

    return _required(~tf.reduce_any(is_other), message, listed)


def rgb_images(pixels: tf.Tensor) -> tf.Tensor:
    """Return the pixels of a request, uint8 [N, H, W, 3], after a check of their shape.

    A single image, uint8 [H, W, 3], becomes a batch of one.
    """
    import tensorflow as tf

    sent = _of_any_shape(pixels)
    shape = tf.shape(sent)
    has_rank = (tf.rank(sent) == 3) | (tf.rank(sent) == 4)
    has_channels = tf.reduce_all(shape[-1:] == _CHANNELS)
    has_pixels = tf.reduce_all(shape > 0)

    def message() -> tf.Tensor:
        return tf.strings.format(
            "pixels: expected one image or more in RGB, uint8 [N, height, width, 3], or a single "
            "one, uint8 [height, width, 3]. Received: shape {}. Convert grey and transparent "
            "images to RGB, or send image files to the signature serving_default.",
            shape,
        )

    checked = _required(has_rank & has_channels & has_pixels, message, sent)
    # An image alone becomes a batch of one.
    batch = tf.reshape(checked, tf.concat([[1], shape], 0)[-4:])
    return tf.ensure_shape(batch, [None, None, None, _CHANNELS])


def _list_of(values: tf.Tensor, name: str, what: str) -> tf.Tensor:
    """Return a list of one string or more, string [N], from a list or a single string."""
    import tensorflow as tf

    sent = _of_any_shape(values)

    def message() -> tf.Tensor:
        return tf.strings.format(
            f"{name}: expected one image or more as a list of {what}, string [N], or a single "
            "one, string []. Received: shape {}. Send a list with one string for each image.",
            tf.shape(sent),
        )

    checked = _required((tf.rank(sent) <= 1) & (tf.size(sent) > 0), message, sent)
    return tf.reshape(checked, [-1])


def _no_text(files: tf.Tensor) -> tf.Tensor:
    """Return encoded images, string [N], after a check that none of them is text."""
    import tensorflow as tf

    begin = tf.strings.substr(files, 0, _TEXT_WITHIN)
    is_text = tf.strings.regex_full_match(begin, _TEXT)

    def message() -> tf.Tensor:
        row = _first_row(is_text)
        text = begin[row]
        shown = tf.strings.substr(text, 0, _SHOWN)
        parts = [
            "image_bytes: expected the bytes of an image file. Received in row ",
            tf.strings.as_string(row),
            ": text (",
            tf.strings.unicode_transcode(shown, "UTF-8", "UTF-8", errors="ignore"),
            tf.where(tf.strings.length(text) > _SHOWN, "…", ""),
            "). Send the content of the file itself: no path, no link, no data URL, no base64 as "
            "plain text. In JSON, the base64 of a file is an object with the single key b64.",
        ]
        return tf.strings.join(parts)

    return _required(~tf.reduce_any(is_text), message, files)


def _first_row(is_wrong: tf.Tensor) -> tf.Tensor:
    """Return the number of the first row that is wrong, int64 []."""
    import tensorflow as tf

    return tf.argmax(tf.cast(is_wrong, tf.int32))


def _of_any_shape(values: tf.Tensor) -> tf.Tensor:
    """Return `values` as a tensor of unknown shape.

    A server feeds values of any shape, whereas TensorFlow would replace a check of the rank by its
    result for the shape in the signature.
    """
    import tensorflow as tf

    return tf.raw_ops.PlaceholderWithDefault(input=values, shape=None)


def _required(
    condition: tf.Tensor, message: Callable[[], tf.Tensor], value: tf.Tensor
) -> tf.Tensor:
    """Return `value`; where the condition is false, fail with the message as INVALID_ARGUMENT."""
    import tensorflow as tf

    def failed() -> tf.Operation:
        return tf.raw_ops.Assert(condition=False, data=[message()], summarize=1)

    check = tf.cond(condition, tf.no_op, failed)
    with tf.control_dependencies([check]):
        return tf.identity(value)
