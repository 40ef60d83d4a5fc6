"""Conversion of large requests in Python, which one thread does at a time.

A conversion holds Python's interpreter lock. Other requests need this lock several times each, and
would wait for every thread that converts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from imgpipe.serving.server.calls import LARGE_BYTES

_SMALL_BYTES = 64 << 10
"""Size of a request whose conversion takes a millisecond at most."""
_PAUSE_PER_BYTE_S = 4e-9
"""Pause in seconds for each byte of a large message that has just arrived. gRPC's thread, which
serves all connections, copies it; see docs/benchmarks.md, "Constants of the code"."""
_one_at_a_time = threading.Lock()
"""Held while a large request is converted."""


@contextmanager
def conversion(size: int, *, arrived: bool = False) -> Iterator[None]:
    """Hold the conversion of some bytes of a request in the block.

    Where they are many, wait for the turn of this thread, and pause after the block for as long as
    it took. Without the pause, other requests would wait for the next conversion each time that
    they need the interpreter lock.

    Args:
        size: Number of bytes that are converted.
        arrived: Whether these are the bytes of a message that has just arrived.
    """
    if size <= _SMALL_BYTES:
        yield
        return
    with _one_at_a_time:
        began = time.monotonic()
        try:
            yield
        finally:
            copied = size * _PAUSE_PER_BYTE_S if arrived and size > LARGE_BYTES else 0.0
            time.sleep(max(time.monotonic() - began, copied))
