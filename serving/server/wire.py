"""Protobuf's wire format, read before a message is parsed: how many values it has.

An empty string takes two bytes of a message and 25 in memory, so that a message of the largest
allowed size would take a gigabyte.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from imgpipe.serving.server.status import invalid

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
        for number, start, stop in fields(data, begin, end):
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
