"""Checks of what a request sends, inside the graph, so that every server gives the same answer.

TensorFlow Serving does not compare the shape of a value with the signature. Without these checks,
the first operation that cannot use the value would answer, about the inside of the network.

The messages have no quotation marks, because the op that raises them would escape these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import tensorflow as tf

PIXELS: Final = "pixels"
EXAMPLES: Final = "examples"

_CHANNELS: Final = 3


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


def strings(values: tf.Tensor, name: str, what: str) -> tf.Tensor:
    """Return the strings of a request, string [N], after a check of their shape.

    What was sent is string [N], or string [] for a single image. `what` says in words what the
    strings of the input with this name are.
    """
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
