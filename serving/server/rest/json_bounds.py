"""Number of values and depth of a JSON document, counted in its bytes before it is parsed.

Python's parser holds the interpreter lock while it works and takes many times the size of a body in
memory: 98 MiB of numbers stopped every other request for 15 s. The nesting is counted because deep
nesting overflows the stack of a parser (CVE-2025-0649 in TensorFlow Serving).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from imgpipe.serving.server.rest.body import TooLarge
from imgpipe.serving.server.status import StatusError, invalid

MAX_DEPTH: Final = 500
"""Largest depth of nested lists and objects; a tensor has at most 64 dimensions. Python's parser
raises RecursionError near 1,000 levels."""
CHUNK = 1 << 20
"""Bytes per step. A step takes some milliseconds, after which other threads can run."""
_OTHERS = bytes(set(range(256)) - set(b'[]{},"'))
"""Everything that is neither a bracket, a comma nor a quote."""
_STEPS = np.zeros(256, np.int8)
_STEPS[[ord("["), ord("{")]] = 1
_STEPS[[ord("]"), ord("}")]] = -1
_BEGINS_VALUE = np.zeros(256, bool)
_BEGINS_VALUE[[ord("["), ord("{"), ord(",")]] = True


def check(body: bytes, max_values: int) -> None:
    """Refuse documents with too many values or too deep nesting.

    Args:
        body: The text in UTF-8. It need not be valid JSON.
        max_values: Largest number of numbers, strings, lists and objects together; an empty list
            or object counts as two.

    Raises:
        TooLarge: There are more values.
        StatusError: INVALID_ARGUMENT, lists and objects are nested more than ``MAX_DEPTH`` times.
    """
    opened = body.count(b"[") + body.count(b"{")
    # Every value but the document itself follows an opening bracket or a comma.
    if opened <= MAX_DEPTH and 1 + opened + body.count(b",") <= max_values:
        return
    depth, values = 0, 1
    for chars in _syntax(body):
        depths = np.cumsum(_STEPS[chars], dtype=np.int32)
        if depths.size:
            if depth + int(depths.max()) > MAX_DEPTH:
                raise too_deep()
            depth += int(depths[-1])
        values += int(np.count_nonzero(_BEGINS_VALUE[chars]))
        if values > max_values:
            raise TooLarge(
                f"holds more than {max_values:,} values (numbers, strings, lists and objects). "
                "Send fewer rows at once, send images as encoded bytes, or use gRPC."
            )


def too_deep() -> StatusError:
    """Return the INVALID_ARGUMENT error for a document that is nested too deeply."""
    return invalid(
        f"JSON Parse error: Nesting too deep. Allowed are {MAX_DEPTH} levels of lists and objects."
    )


def open_brackets(text: bytes) -> bytes:
    """Return the brackets that are open at the end of ``text``, outermost first."""
    opened = bytearray()
    for chars in _syntax(text):
        for char, step in zip(chars.tolist(), _STEPS[chars].tolist(), strict=True):
            if step > 0:
                opened.append(char)
            elif step < 0 and opened:
                opened.pop()
    return bytes(opened)


def _syntax(body: bytes) -> Iterator[np.ndarray]:
    """Yield the brackets and commas outside strings, chunk by chunk."""
    start, inside = 0, False
    while start < len(body):
        chunk = body[start : start + CHUNK]
        if start + len(chunk) < len(body):
            # A backslash stays together with the character that it escapes.
            slashes = len(chunk) - len(chunk.rstrip(b"\\"))
            chunk = chunk[: len(chunk) - slashes % 2]
        start += len(chunk)
        if b"\\" in chunk:
            chunk = chunk.replace(rb"\\", b"").replace(rb"\"", b"")
        chars = np.frombuffer(chunk.translate(None, _OTHERS), np.uint8)
        if chars.size:
            quotes = np.cumsum(chars == ord('"'), dtype=np.int32) + inside
            inside = bool(quotes[-1] & 1)  # an odd number of quotes leaves a string open
            yield chars[quotes & 1 == 0]
