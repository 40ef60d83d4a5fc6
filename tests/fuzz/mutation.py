"""Mutates inputs as failing disks, broken transfers and attackers change files."""

import json
from collections.abc import Iterator
from random import Random
from typing import Any

LARGEST = 1 << 16  # bytes of the largest input
#: Numbers that often break readers, in the integer sizes and byte orders that formats use.
_EDGES = [
    value.to_bytes(size, order, signed=value < 0)
    for size in (1, 2, 4, 8)
    for order in ("little", "big")
    for value in (0, 1, -1, (1 << size * 8 - 1) - 1, -(1 << size * 8 - 1))
]
_WORDS = [
    *(b"{" * 3000, b"9" * 6000, b"[" * 3000, b"\0" * 600, b"\xed\xa0\x80", b"\xff\xfe"),
    *(b"..", b"/", b"\\ud800", b"1e999"),
]
#: Values of another type or size than a reader of JSON expects.
_VALUES = (
    *(None, True, -1, 2**70, 1e308, 0.5, "", "x", "\ud800", "a\0b", "../x"),
    *([], {}, [[]], [None]),
)


def mutate(data: bytes, other: bytes, draw: Random) -> bytes:
    """Return `data` with one to five mutations, or with up to two other values if it is JSON.

    A piece of `other` may be copied into the result, which has at most `LARGEST` bytes. The same
    state of `draw` gives the same result.
    """
    if draw.random() < 0.5 and (changed := _other_values(data, draw)):
        return changed[:LARGEST]
    found = bytearray(data)
    for _ in range(draw.randrange(1, 6)):
        start = draw.randrange(len(found) + 1)
        end = min(len(found), start + draw.choice((1, 2, 4, 8, 40, 600)))
        kind = draw.randrange(8)
        if kind == 0:
            del found[start:end]
        elif kind == 1:
            found[start:start] = found[start:end]
        elif kind == 2 and draw.random() < 0.2:
            del found[start:]
        elif kind == 3 and other:
            place = draw.randrange(len(other))
            found[start:end] = other[place : place + draw.choice((4, 30, 500))]
        elif kind == 4:
            edge = draw.choice(_EDGES)
            found[start : start + len(edge)] = edge
        elif kind == 5 and draw.random() < 0.2:
            found[start:start] = draw.choice(_WORDS)
        elif start < len(found):
            found[start] ^= 1 << draw.randrange(8)
    return bytes(found[:LARGEST])


def _other_values(data: bytes, draw: Random) -> bytes:
    """Return JSON in which one or two values are replaced or removed; b"" if it is none."""
    try:
        tree = json.loads(data)
        for _ in range(draw.randrange(1, 3)):
            places = list(_places(tree))
            if not places:
                return b""
            container, key = draw.choice(places)
            if draw.random() < 0.2:
                del container[key]
            else:
                container[key] = json.loads(json.dumps(draw.choice(_VALUES)))
        return json.dumps(tree).encode()
    except (ValueError, RecursionError):
        return b""


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the container and the key, or index, of each value in a JSON document."""
    if not isinstance(tree, dict | list):
        return
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        yield tree, key
        yield from _places(value)
