"""Protobuf's wire format, read before a message is parsed: how many values it has.

An empty string takes two bytes of a message and 25 in memory, so that a message of the largest
allowed size, which is small when it is compressed, would take gigabytes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from imgpipe.serving.server.status import invalid

MAX_FIELDS = 100_000
"""Fields of a request, of which each string of a tensor is one. Packed numbers are one together."""
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_GROUPS = (3, 4)
"""Begin and end of an obsolete kind of nested message, which have no content of their own."""


def fields(data: bytes, begin: int = 0, end: int | None = None) -> Iterator[tuple[int, int, int]]:
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
    """Return a number of 7 bits a byte, and where it ends."""
    value = shift = 0
    while data[at] > 0x7F:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
    return value | data[at] << shift, at + 1


def check_fields(data: bytes, descriptor: Any) -> None:
    """Check that a message is not made of very many small parts.

    Args:
        data: The message.
        descriptor: The descriptor of its type.

    Raises:
        StatusError: INVALID_ARGUMENT, it has more than `MAX_FIELDS` fields.
    """
    count = 0
    nested = [(descriptor, 0, len(data))]
    while nested:
        kind, begin, end = nested.pop()
        messages = _messages(kind)
        for number, start, stop in fields(data, begin, end):
            count += 1
            if count > MAX_FIELDS:
                raise invalid(
                    f"The request has more than {MAX_FIELDS:,} values. Send fewer rows at once, "
                    "and numbers in tensor_content."
                )
            if number in messages and start >= 0:
                nested.append((messages[number], start, stop))


@functools.cache
def _messages(descriptor: Any) -> Mapping[int, Any]:
    """Return the types of the fields of a message that are messages, by number."""
    return {
        field.number: field.message_type
        for field in descriptor.fields
        if field.message_type is not None
    }
