"""Limits of a request, checked before anything is decoded: bytes of a tensor, pixels of an image.

A PNG of a few kilobytes can contain 16000 x 16000 pixels and take 3,000 times its size in memory
when the graph decodes it. The header tells the size beforehand (``image_header``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgpipe.serving.image_header import pixels
from imgpipe.serving.server.signature_names import IMAGE_INPUT
from imgpipe.serving.server.status import invalid

DEFAULT_MAX_MESSAGE_BYTES = 64 << 20
"""Largest decompressed size of a gRPC request, four times what our client sends at once. TensorFlow
Serving has no limit below gRPC's limit of 2 GiB: a request of 0.6 MB made it allocate 1.45 GiB."""
DEFAULT_MAX_BYTES_IN_FLIGHT = 1 << 30
"""Largest size of all gRPC requests together that wait or run: 16 of the largest. The queue
holds 1,024 requests, which could otherwise take 64 GiB."""
DEFAULT_MAX_WAITING = 1024
"""Largest number of requests in the queue."""
_MEGA = 1_000_000
DEFAULT_MAX_PIXELS = 50 * _MEGA


@dataclass(frozen=True)
class Limits:
    """The limits of one request; 0 means no limit."""

    max_pixels: int = DEFAULT_MAX_PIXELS
    """Largest number of pixels of an encoded image; for an animation, of all frames together."""
    max_tensor_bytes: int = 0
    """Largest size of one input after it is decoded from its message."""
    image_inputs: frozenset[str] = frozenset({IMAGE_INPUT})
    """String inputs and features whose values are encoded images."""

    def check(self, alias: str, value: np.ndarray) -> None:
        """Refuse an input that is too large.

        Args:
            alias: Name of the input in the signature.
            value: Array of any shape; strings and encoded images are an object array of bytes.

        Raises:
            StatusError: INVALID_ARGUMENT, the input exceeds a limit.
        """
        self.check_size(alias, value)
        if not self.max_pixels or value.dtype != object:
            return
        if alias in self.image_inputs:
            for item in value.reshape(-1):
                self._check_image(alias, item)
        # The usual names of inputs of serialized tf.Examples: the first in the templates of TFX,
        # the second for Classify and Regress.
        elif alias in ("examples", "inputs"):
            self.check_examples(value.reshape(-1))

    def check_size(self, alias: str, value: np.ndarray) -> None:
        """Refuse an input with too many bytes; those of strings are the bytes of their texts.

        Args:
            alias: Name of the input in the signature.
            value: Array of any shape; strings are an object array of bytes.

        Raises:
            StatusError: INVALID_ARGUMENT, the input has more than ``max_tensor_bytes``.
        """
        if not self.max_tensor_bytes:
            return
        is_text = value.dtype == object
        size = sum(map(len, value.reshape(-1))) if is_text else value.nbytes
        if size > self.max_tensor_bytes:
            raise invalid(
                f"Input {alias} has {size} bytes; {self.max_tensor_bytes} are allowed. "
                "Send fewer rows at once."
            )

    def check_examples(self, strings: np.ndarray) -> None:
        """Check the images inside serialized tf.Examples; other strings are ignored.

        Args:
            strings: Object array of bytes, [n].

        Raises:
            StatusError: INVALID_ARGUMENT, an image exceeds the limit.
        """
        if not self.max_pixels:
            return
        names = [(name, name.encode()) for name in self.image_inputs]
        for item in strings:
            # Most examples have no image, and searching is cheaper than parsing.
            for name, key in names:
                for image in example_images(item, name) if key in item else ():
                    self._check_image(name, image)

    def _check_image(self, alias: str, data: bytes) -> None:
        size = pixels(data)
        if size is not None and size > self.max_pixels:
            raise invalid(
                f"An image in {alias} has {size / _MEGA:.1f} million pixels; at most "
                f"{self.max_pixels / _MEGA:g} million are allowed. Send a smaller image."
            )


def example_images(item: bytes, name: str) -> list[bytes]:
    """Return the images in a serialized tf.Example.

    Args:
        item: Any bytes.
        name: Name of the feature that holds images.

    Returns:
        The images; none if a graph cannot read the bytes.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError
    from tensorflow.core.example import example_pb2

    try:
        features = example_pb2.Example.FromString(item).features.feature
        return list(features[name].bytes_list.value) if name in features else []
    except DecodeError:
        pass
    # A graph accepts features whose names are not UTF-8, which protobuf refuses.
    try:
        found = tf.io.parse_single_example(item, {name: tf.io.VarLenFeature(tf.string)})
    except tf.errors.InvalidArgumentError:
        return []
    return list(found[name].values.numpy())


NO_LIMITS = Limits(max_pixels=0)
