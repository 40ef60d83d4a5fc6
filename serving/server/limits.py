"""What a request may ask for: bytes of a tensor, pixels of a picture - before anything is decoded.

A PNG of some kilobytes can hold 16000 x 16000 pixels and cost 3,000 times its size in memory when
the graph decodes it. The headers say so beforehand (``image_header``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgpipe.serving.server.image_header import pixels
from imgpipe.serving.server.status import StatusError, invalid

IMAGE_INPUT = "image_bytes"
"""Name of the input, and of the feature, that holds encoded pictures in the models of imgpipe."""
DEFAULT_MAX_MESSAGE_BYTES = 128 << 20
"""Of one gRPC request, decompressed. TensorFlow Serving has no bound below gRPC's own of 2 GiB: a
request of 0.6 MB made it hold 1.45 GiB."""
_MEGA = 1_000_000


@dataclass(frozen=True)
class Limits:
    """The bounds of one request; 0 means none."""

    max_pixels: int = 50 * _MEGA
    """Of one encoded picture (of an animation: of all its frames together)."""
    max_tensor_bytes: int = 0
    """Of one input, decoded from its message."""
    image_inputs: frozenset[str] = frozenset({IMAGE_INPUT})
    """String inputs and features whose values are encoded pictures."""

    def check(self, alias: str, value: np.ndarray) -> None:
        """Refuse an input that is too large.

        Raises:
            StatusError: INVALID_ARGUMENT.
        """
        if self.max_tensor_bytes and value.nbytes > self.max_tensor_bytes:
            raise invalid(
                f"Input {alias} has {value.nbytes} bytes, allowed are {self.max_tensor_bytes}. "
                "Send fewer rows at once."
            )
        if not self.max_pixels or value.dtype != object:
            return
        if alias in self.image_inputs:
            for item in value.reshape(-1):
                self._check_picture(alias, item)
        elif alias in ("examples", "inputs"):
            self.check_examples(value.reshape(-1))

    def check_examples(self, strings: np.ndarray) -> None:
        """The same for the pictures inside serialized tf.Examples; what is none is passed over.

        Raises:
            StatusError: INVALID_ARGUMENT.
        """
        if not self.max_pixels:
            return
        names = [(name, name.encode()) for name in self.image_inputs]
        for item in strings:
            # Parsing costs more than the search, and most examples hold no picture.
            for name, key in names:
                if key in item:
                    self._check_example(name, item)

    def _check_example(self, name: str, item: bytes) -> None:
        from google.protobuf.message import DecodeError
        from tensorflow.core.example import example_pb2

        try:
            example = example_pb2.Example.FromString(item)
        except DecodeError:
            return  # the graph says it better
        if name in example.features.feature:
            for picture in example.features.feature[name].bytes_list.value:
                self._check_picture(name, picture)

    def _check_picture(self, alias: str, data: bytes) -> None:
        size = pixels(data)
        if size is not None and size > self.max_pixels:
            raise _too_large(alias, size, self.max_pixels)


def _too_large(alias: str, size: int, most: int) -> StatusError:
    return invalid(
        f"A picture in {alias} has {size / _MEGA:.1f} million pixels, allowed are "
        f"{most / _MEGA:g} million. Send it smaller."
    )
