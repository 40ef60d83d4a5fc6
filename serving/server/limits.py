"""Limits of a request, checked before it is parsed and computed.

An empty map entry takes two bytes of a message and 140 in memory, so that a message of the largest
allowed size would take gigabytes, and a minute. A PNG of a few kilobytes can contain 16000 x 16000
pixels and take 3,000 times its size in memory when the graph decodes it; `Look` tells such costs
beforehand.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from imgpipe.serving.image_header import JXL
from imgpipe.serving.look import Look, too_many_pixels
from imgpipe.serving.server.status import EXPECTED_EXAMPLES, invalid
from imgpipe.serving.server.storage import IMAGE_INPUT

MAX_FIELDS = 100_000
"""Fields of a request, of which each string of a tensor is one, and packed numbers are one
together."""
MAX_VARINT_BYTES = 8 << 20
"""Bytes of all packed numbers of variable length, such as `int_val`, which take up to eight times
as much in memory. Floats and `tensor_content` are copied as a whole."""
MAX_NAME_CHARACTERS = 4096
"""Length of the name of a signature."""
MAX_ROWS = 256
"""Rows of one request to a model of imgpipe, whose network computes them together; eight times as
many as our client sends."""
_IMAGES = 16
"""How many images of the largest size one request may contain."""
_MEGA = 1_000_000
_EXAMPLES = "examples"
"""The usual name of the input of serialized tf.Examples."""
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_GROUPS = (3, 4)
"""Begin and end of an obsolete kind of nested message, which have no content of their own."""
_LONGEST_VARINT = 10
"""Bytes of a number of 64 bits."""
_VARINTS = "varints"


def check_fields(message: bytes, descriptor: Any) -> None:
    """Raise a StatusError if a message is made of very many small parts, before it is parsed."""
    count = 0
    varint_bytes = 0
    nested = [(descriptor, 0, len(message))]
    while nested:
        kind, begin, end = nested.pop()
        parts = _parts(kind)
        for number, start, stop in _fields(message, begin, end):
            part = parts.get(number)
            count += 1
            if count > MAX_FIELDS:
                raise invalid(
                    f"The request has more than {MAX_FIELDS:,} values. Send fewer rows at once, "
                    "and numbers in tensor_content."
                )
            if part == _VARINTS:
                varint_bytes += stop - start
            elif part is not None and start >= 0:
                nested.append((part, start, stop))
            if varint_bytes > MAX_VARINT_BYTES:
                raise invalid(
                    f"The request has more than {MAX_VARINT_BYTES >> 20} MiB of numbers in fields "
                    "such as int_val. Send them in tensor_content."
                )


def _fields(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the fields of a message: number, and begin and end of the content in `data`.

    Content that has no length of its own, such as a number, has begin and end -1. A field that is
    not well-formed is the last one: the parser refuses the message.
    """
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


@functools.cache
def _parts(descriptor: Any) -> Mapping[int, Any]:
    """Return the types of fields that are messages, and which are numbers of variable length."""
    parts: dict[int, Any] = {}
    for field in descriptor.fields:
        if field.message_type:
            parts[field.number] = field.message_type
        elif field.is_packed and field.type not in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
            parts[field.number] = _VARINTS
    return parts


def check_rows(count: int) -> None:
    """Raise a StatusError if a request has more than `MAX_ROWS` rows."""
    if count > MAX_ROWS:
        raise invalid(
            f"The request has {count:,} rows; {MAX_ROWS:,} are allowed. Send fewer rows at once."
        )


def checked_pixels(arrays: Mapping[str, np.ndarray], most: int) -> int:
    """Return how many pixels the encoded images of a request have together.

    A StatusError says which of them has more than `most` pixels, which is 0 for any, or costs more
    than its number of pixels tells, or that all of them have too many.
    """
    if not most:
        return 0
    total = 0
    for image in itertools.chain(_strings(arrays, IMAGE_INPUT), _features(arrays)):
        look = Look(image)
        if look.format == JXL:
            raise invalid(look.refusal())
        if cost := look.hidden_cost:
            raise invalid(f"the image has {cost}. Save it again as JPEG or PNG.")
        if look.pixels > most:
            raise invalid(too_many_pixels(look.pixels, most))
        total += look.pixels
    if total > _IMAGES * most:
        raise invalid(
            f"The images of the request have {total / _MEGA:,.0f} million pixels; "
            f"{_IMAGES * most / _MEGA:,.0f} million are allowed. Send fewer images at once."
        )
    return total


def images_of(arrays: Mapping[str, np.ndarray]) -> Iterator[bytes]:
    """Yield the encoded images that the graph reads of a request, in their order."""
    from tensorflow.core.example import example_pb2  # the package imports TensorFlow

    yield from _strings(arrays, IMAGE_INPUT)
    for data in _strings(arrays, _EXAMPLES):
        feature = example_pb2.Example.FromString(data).features.feature[IMAGE_INPUT]
        yield from feature.bytes_list.value


def _strings(arrays: Mapping[str, np.ndarray], name: str) -> Iterator[bytes]:
    """Yield the values of an input; none if it was not sent, or has no strings."""
    value = arrays.get(name)
    if value is not None and value.dtype == object:
        yield from value.flat


def _features(arrays: Mapping[str, np.ndarray]) -> Iterator[bytes]:
    """Yield all bytes in tf.Examples. The graph reads one feature; to look at all is simpler."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.example import example_pb2  # the package imports TensorFlow

    for data in _strings(arrays, _EXAMPLES):
        check_fields(data, example_pb2.Example.DESCRIPTOR)
        try:
            example = example_pb2.Example.FromString(data)
        except DecodeError:
            raise invalid(EXPECTED_EXAMPLES) from None
        for feature in example.features.feature.values():
            yield from feature.bytes_list.value
