"""Limits of a request, checked before it is parsed and computed.

An empty string takes two bytes of a message and 25 in memory, so that a message of the largest
allowed size would take a gigabyte.

A PNG of a few kilobytes can contain 16000 x 16000 pixels and take 3,000 times its size in memory
when the graph decodes it; `Look` tells such costs beforehand. An image of one pixel costs
the network as much as any other. The rows of a request are therefore counted first, and computed in
slices of about a tenth of a second, between which other requests get their turn.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from imgpipe.serving.image_header import JXL, TooManyParts, parts_together, scan_count
from imgpipe.serving.look import UNKNOWN_PIXELS, Look, too_many_pixels
from imgpipe.serving.server.status import invalid
from imgpipe.serving.server.storage import IMAGE_INPUT

MAX_FIELDS = 100_000
"""Fields of a request, of which each string of a tensor is one. Packed numbers are one together in
a tensor. In a tf.Example their bytes are counted, since models of images do not read them, and the
graph made 3 GB of 60 MB."""
MAX_VARINT_BYTES = 8 << 20
"""Bytes of all packed numbers of variable length, such as `int_val`, which take 6 ms a megabyte to
parse while nothing else runs. Floats and `tensor_content` are copied as a whole."""
MAX_NAME_BYTES = 4096
"""Length of a name in a request: of the model, a signature, an input, an output or a feature."""
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_LONGEST_VARINT = 10
"""Bytes of a number of 64 bits."""
_NUMBERS, _VARINTS, _NAME = "numbers", "varints", "name"
_GROUPS = (3, 4)
"""Begin and end of an obsolete kind of nested message, which have no content of their own."""


def message_fields(
    data: bytes, begin: int = 0, end: int | None = None
) -> Iterator[tuple[int, int, int]]:
    """Yield the fields of a message: number, and begin and end of the content in `data`.

    Content that has no length of its own, such as a number, has begin and end -1. A field that is
    not well-formed is the last one.
    """
    end = len(data) if end is None else end
    try:
        while begin < end:
            tag, begin = _varint(data, begin)
            kind = tag & 7
            content = after = begin
            if kind == _LENGTH:
                length, content = _varint(data, begin)
                after = content + length
            elif kind == _VARINT:
                _, after = _varint(data, begin)
            elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
                after = begin + (8 if kind == _EIGHT_BYTES else 4)
            elif kind not in _GROUPS:
                return
            if after > end:
                return
            yield (tag >> 3, content, after) if kind == _LENGTH else (tag >> 3, -1, -1)
            begin = after
    except IndexError:
        return


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of 7 bits a byte, and where it ends; IndexError if it does not end."""
    value = 0
    for place in range(_LONGEST_VARINT):
        byte = data[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte <= 0x7F:
            return value, at + place + 1
    raise IndexError


def check_fields(
    messages: Iterable[bytes], descriptor: Any, *, counts_packed: bool = False
) -> None:
    """Check that messages are not made of very many small parts, and that names are short.

    They are the message of a request, or those that it holds, of the type of the descriptor.
    `counts_packed` says whether each byte of packed numbers counts as a field. What is too much is
    a StatusError.
    """
    count = 0
    varint_bytes = 0
    nested = [(message, descriptor, 0, len(message)) for message in messages]
    while nested:
        data, kind, begin, end = nested.pop()
        parts = _parts(kind)
        for number, start, stop in message_fields(data, begin, end):
            part = parts.get(number)
            is_packed = part in (_NUMBERS, _VARINTS)
            count += max(stop - start, 1) if is_packed and counts_packed else 1
            varint_bytes += stop - start if part == _VARINTS else 0
            if varint_bytes > MAX_VARINT_BYTES:
                raise invalid(
                    f"The request has more than {MAX_VARINT_BYTES >> 20} MiB of numbers in fields "
                    "such as int_val. Send them in tensor_content."
                )
            if count > MAX_FIELDS:
                raise invalid(
                    f"The request has more than {MAX_FIELDS:,} values. Send fewer rows at once, "
                    "and numbers in tensor_content."
                )
            if part == _NAME and stop - start > MAX_NAME_BYTES:
                raise invalid(f"A name in the request has more than {MAX_NAME_BYTES:,} bytes.")
            if part not in (None, _NUMBERS, _VARINTS, _NAME) and start >= 0:
                nested.append((data, part, start, stop))


@functools.cache
def _parts(descriptor: Any) -> Mapping[int, Any]:
    """Return the types of fields that are messages, and which are lists of numbers, or names."""
    parts: dict[int, Any] = {}
    for field in descriptor.fields:
        if field.message_type:
            parts[field.number] = field.message_type
        elif field.is_packed:
            is_fixed = field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE)
            parts[field.number] = _NUMBERS if is_fixed else _VARINTS
        elif field.type == field.TYPE_STRING:
            parts[field.number] = _NAME
    return parts


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
_USUAL_SCANS = 10
"""Scans that encoders write, with which a JPEG takes less than twice as long as with one."""
_SCANS_PER_COST = 5
"""Scans of a JPEG of more than `_USUAL_SCANS` that cost as much as a usual file: a decoder reads
all pixels for each scan, and a hundred took 20 times as long."""
_LOSSLESS_PIXELS_PER_BYTE = 55
"""Pixels of a usual file that cost as much as a byte of a lossless WebP file of many tables of
codes."""
_MOST_LOSSLESS_PIXELS = 32 * _MEGA
"""Pixels of a usual file that cost as much as all tables that a lossless WebP file can have. One of
0.6 MB and a million pixels had these 65,536, and took 0.3 s and 370 MB."""
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
    """Return how many pixels each row of an input costs; 0 for strings that are no images.

    Args:
        alias: Name of the input in the signature.
        value: Array of any shape; strings and encoded images are an object array of bytes.
        most: Largest allowed number of pixels of an image; 0 for any, and then none are counted.

    Returns:
        One number for each row; a single value, or an array without values, counts as one row.

    Raises:
        StatusError: INVALID_ARGUMENT, an image or all of them together are too large.
    """
    # An array without values may have any number of rows: 40 bytes of a request say so.
    rows = value.reshape(len(value), -1) if value.ndim and value.size else value.reshape(1, -1)
    if value.dtype != object:  # pixels that are decoded already cost more than those of a file
        return [rows.shape[1]] * len(rows)
    if not (most and _holds_images(alias, value)):
        return [0] * len(rows)
    check_rows(value.size)  # of any shape, which the graph compares later
    if alias == _EXAMPLES:
        from tensorflow.core.example import example_pb2  # the package imports TensorFlow

        check_fields(value.flat, example_pb2.Example.DESCRIPTOR, counts_packed=True)
    with parts_of(value):
        counts = [_pixels_and_cost(alias, row, most) for row in rows]
    total = sum(pixels for pixels, _ in counts)
    if total > _IMAGES * most:
        raise invalid(
            f"The images of the request have {total / _MEGA:,.0f} million pixels; "
            f"{_IMAGES * most / _MEGA:,.0f} million are allowed. Send fewer images at once."
        )
    return [cost for _, cost in counts]


def check_hidden_costs(arrays: Mapping[str, np.ndarray]) -> None:
    """Check that no image is JPEG XL, or costs more than its number of pixels tells.

    It reads all bytes of the images, so it is called for the rows that run next.

    Raises:
        StatusError: INVALID_ARGUMENT, an image is or does, for the reason in the message.
    """
    for _, image in _all_images(arrays):
        look = Look(image)
        if look.format == JXL:
            raise invalid(look.refusal())
        if cost := look.hidden_cost:
            raise invalid(f"the image has {cost}. Save it again as JPEG or PNG.")


def parts_of(*values: np.ndarray) -> AbstractContextManager[None]:
    """Limit the parts of the images that are followed in the block, for all rows together.

    Each file may have 300,000. A request of 112 such files held up all others for seconds.
    """
    strings = (value for value in values if value.dtype == object)
    return parts_together(sum(len(item) for value in strings for item in value.flat))


def _holds_images(alias: str, value: np.ndarray) -> bool:
    return value.dtype == object and alias in (IMAGE_INPUT, _EXAMPLES)


def _pixels_and_cost(alias: str, row: Iterable[bytes], most: int) -> tuple[int, int]:
    """Return the pixels of the images of a row, and those that they cost; see `_cost`."""
    pixels = 0
    total_cost = 0
    for _, image in (found for item in row for found in _images(alias, item)):
        look = Look(image)
        cost = _cost(look)
        if UNKNOWN_PIXELS in (look.pixels, cost):
            raise invalid(
                "the images of the request have too many parts, such as the blocks of a GIF. Send "
                "fewer images at once, or save them again."
            )
        if look.pixels > most:
            raise invalid(too_many_pixels(look.pixels, most))
        pixels += look.pixels
        total_cost += cost
    return pixels, total_cost


def _cost(look: Look) -> int:
    """Return how many pixels of a usual file take as long to decode as an image."""
    if look.format == "JPEG":
        try:
            scans = scan_count(look.data, _USUAL_SCANS)
        except TooManyParts:
            return UNKNOWN_PIXELS
        return look.pixels * (scans // _SCANS_PER_COST if scans > _USUAL_SCANS else 1)
    if look.format == "WEBP" and b"VP8L" in look.data:
        of_tables = len(look.data) * _LOSSLESS_PIXELS_PER_BYTE
        return max(look.pixels, min(of_tables, _MOST_LOSSLESS_PIXELS))
    return look.pixels


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
        fields = (field for begin, end in parts for field in message_fields(item, begin, end))
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

    The cores compute `at_once` calls at the same time.
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
