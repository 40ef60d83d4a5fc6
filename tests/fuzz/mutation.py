"""Damage: what disks, transfers and attackers do to a file."""

from __future__ import annotations

from random import Random

LARGEST = 1 << 16  # bytes of an input
#: Numbers at which readers go wrong, in the sizes and orders in which formats have them.
_EDGES = [
    value.to_bytes(size, order, signed=value < 0)
    for size in (1, 2, 4, 8)
    for order in ("little", "big")
    for value in (0, 1, -1, (1 << size * 8 - 1) - 1, -(1 << size * 8 - 1))
]
_WORDS = [
    b"{" * 3000,
    b"9" * 6000,
    b"[" * 3000,
    b"\0" * 600,
    b"\xed\xa0\x80",
    b"\xff\xfe",
    b"..",
    b"/",
    b"\\ud800",
    b"1e999",
]


def mutate(data: bytes, other: bytes, draw: Random) -> bytes:
    """The input with up to five damages; `other` is an input to take a piece of."""
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
