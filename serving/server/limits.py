"""Limits of a request: what its rows cost, checked before they are computed.

A PNG of a few kilobytes can contain 16000 x 16000 pixels and take 3,000 times its size in memory
when the graph decodes it; `Look` tells such costs beforehand. An image of one pixel costs
the network as much as any other. The rows of a request are therefore counted first, and computed in
slices of about a tenth of a second, between which other requests get their turn.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import numpy as np

from imgpipe.serving.image_parts import parts_together
from imgpipe.serving.look import UNKNOWN_PIXELS, Look, too_many_pixels
from imgpipe.serving.server import wire
from imgpipe.serving.server.status import invalid
from imgpipe.serving.server.storage import IMAGE_INPUT

_MEGA = 1_000_000
_EXAMPLES = "examples"
"""The usual name of the input of serialized tf.Examples."""
_IMAGES = 16
"""How many images of the largest size one request may contain."""
MAX_ROWS = 16_384
"""Rows of one request, whose outputs are in memory together."""
MAX_SLICE_ROWS = 64
"""Rows that run at once at most; more were not faster."""
SLICE_PIXELS = 20 * _MEGA
"""Pixels that are decoded at once in a slice of several rows, which takes about 0.2 s. A larger
image is a slice of its own."""
SMALL_PIXELS = 2 * _MEGA
"""Pixels of a request that are decoded in about 0.02 s, as long as the default network takes."""
_SLICE_S = 0.1
"""Seconds that a slice of rows should take."""
_FIRST_ROWS = 4
"""Rows of a slice while nothing is known of the speed of a model."""


def check_rows(count: int) -> None:
    """Raise a StatusError if a request has more than `MAX_ROWS` rows."""
    if count > MAX_ROWS:
        raise invalid(
            f"The request has {count:,} rows; {MAX_ROWS:,} are allowed. Send fewer rows at once."
        )


def row_pixels(alias: str, value: np.ndarray, most: int) -> list[int]:
    """Return how many pixels the images in each row of an input have; 0 for other strings.

    Args:
        alias: Name of the input in the signature.
        value: Array of any shape; strings and encoded images are an object array of bytes.
        most: Largest allowed number of pixels of an image; 0 for any, and then none are counted.

    Returns:
        One number for each row; a single value counts as one row.

    Raises:
        StatusError: INVALID_ARGUMENT, an image or all of them together are too large.
    """
    rows = value.reshape(len(value), -1) if value.ndim and len(value) else value.reshape(1, -1)
    if value.dtype != object:  # pixels that are decoded already cost more than those of a file
        return [rows.shape[1]] * len(rows)
    if not (most and _holds_images(alias, value)):
        return [0] * len(rows)
    check_rows(value.size)  # of any shape, which the graph compares later
    if alias == _EXAMPLES:
        from tensorflow.core.example import example_pb2  # the package imports TensorFlow

        wire.check_fields(value.flat, example_pb2.Example.DESCRIPTOR, counts_packed=True)
    with parts_of(value):
        counts = [sum(_pixels(alias, item, most) for item in row) for row in rows]
    if sum(counts) > _IMAGES * most:
        raise invalid(
            f"The images of the request have {sum(counts) / _MEGA:,.0f} million pixels together; "
            f"{_IMAGES * most / _MEGA:,.0f} million are allowed. Send fewer images at once."
        )
    return counts


def check_hidden_costs(arrays: Mapping[str, np.ndarray]) -> None:
    """Check that images cost no more than their numbers of pixels tell.

    It reads all bytes of the images, so it is called for the rows that run next.

    Raises:
        StatusError: INVALID_ARGUMENT, an image costs more, for the reason in the message.
    """
    for _, image in _all_images(arrays):
        if cost := Look(image).hidden_cost:
            raise invalid(f"the image has {cost}. Save it again as JPEG or PNG.")


def parts_of(*values: np.ndarray) -> AbstractContextManager[None]:
    """Limit the parts of the images that are followed in the block, for all rows together.

    Each file may have 300,000. A request of 112 such files held up all others for seconds.
    """
    strings = (value for value in values if value.dtype == object)
    return parts_together(sum(len(item) for value in strings for item in value.flat))


def _holds_images(alias: str, value: np.ndarray) -> bool:
    return value.dtype == object and alias in (IMAGE_INPUT, _EXAMPLES)


def _pixels(alias: str, item: bytes, most: int) -> int:
    total = 0
    for _, image in _images(alias, item):
        count = Look(image).pixels
        if count == UNKNOWN_PIXELS:
            raise invalid(
                "the images of the request have too many parts, such as the blocks of a GIF. Send "
                "fewer images at once, or save them again."
            )
        if count > most:
            raise invalid(too_many_pixels(count, most))
        total += count
    return total


def images_of(arrays: Mapping[str, np.ndarray]) -> Iterator[bytes]:
    """Yield the encoded images of a request, in the order of its rows."""
    return (image for name, image in _all_images(arrays) if name == IMAGE_INPUT.encode())


def _all_images(arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[bytes, bytes]]:
    for alias, value in arrays.items():
        if _holds_images(alias, value):
            for item in value.flat:
                yield from _images(alias, item)


def _images(alias: str, item: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield what may be an image in a value, with its name or the name of its feature.

    The graph reads one feature of an Example; to count all of them is simpler. Protobuf refuses
    features whose names are not UTF-8, which the graph accepts.
    """

    def inside(wanted: int, parts: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        fields = (field for begin, end in parts for field in wire.fields(item, begin, end))
        return ((begin, end) for number, begin, end in fields if number == wanted and begin >= 0)

    if alias == IMAGE_INPUT:
        yield IMAGE_INPUT.encode(), item
        return
    # Example.features.feature[…]: a key, and a value with bytes_list.value
    for entry in inside(1, inside(1, [(0, len(item))])):
        name = b"".join(item[begin:end] for begin, end in inside(1, [entry]))
        for begin, end in inside(1, inside(1, inside(2, [entry]))):
            yield name, item[begin:end]


class Pace:
    """How many rows of each signature of a version run at once, by the time that others took.

    Args:
        at_once: Number of calls that the cores compute at the same time.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._running = 0
        self._rows: dict[str, int] = {}
        self._lock = threading.Lock()

    def end(self, signature: str, counts: Sequence[int], begin: int) -> int:
        """Return where a slice ends that begins at a row, given the pixels of each row."""
        most = begin + self._rows.get(signature, _FIRST_ROWS)
        end = begin
        total = 0
        while end < min(most, len(counts)) and (end == begin or total < SLICE_PIXELS):
            total += counts[end]
            end += 1
        # The last row may be too much, unless it is the only one.
        return end - 1 if total > SLICE_PIXELS and end > begin + 1 else end

    @contextmanager
    def measured(self, signature: str, rows: int) -> Iterator[None]:
        """Learn from the time of a block that runs some rows.

        Other calls that run meanwhile make it slower, which says nothing about the model.
        """
        with self._lock:
            self._running += 1
            share = min(1.0, self._at_once / self._running)
        began = time.monotonic()
        try:
            yield
        finally:
            seconds = max((time.monotonic() - began) * share, 1e-6)
            with self._lock:
                self._running -= 1
                allowed = self._rows.get(signature, _FIRST_ROWS)
                fitting = max(int(rows * _SLICE_S / seconds), 1)
                if rows >= allowed or fitting < allowed:
                    self._rows[signature] = min(fitting, 2 * allowed, MAX_SLICE_ROWS)


class Turns:
    """Lets a limited number of threads compute at a time, in the order in which they have come."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._waiting: deque[threading.Event] = deque()
        self._lock = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn of this thread, which the block is."""
        mine = threading.Event()
        with self._lock:
            if self._free:
                self._free -= 1
                mine.set()
            else:
                self._waiting.append(mine)
        mine.wait()
        try:
            yield
        finally:
            with self._lock:
                if self._waiting:
                    self._waiting.popleft().set()
                else:
                    self._free += 1
