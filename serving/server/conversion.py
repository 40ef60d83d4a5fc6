"""Conversion of large requests in Python, which one thread does at a time.

A conversion holds Python's interpreter lock. Other requests need this lock several times each, and
would wait for every thread that converts.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from imgpipe.serving.server.calls import LARGE_BYTES, Call, LongCall
from imgpipe.serving.server.limits import Turns
from imgpipe.serving.server.status import Code, StatusError, invalid

_SMALL_BYTES = 64 << 10
"""Size of a request whose conversion takes a millisecond at most."""
_PAUSE_PER_BYTE_S = 4e-9
"""Pause in seconds for each byte of a large message that has just arrived. gRPC's thread, which
serves all connections, copies it; see docs/benchmarks.md, "Constants of the code"."""
_one_at_a_time = threading.Lock()
"""Held while a large request is converted."""
MAX_UNPACKED_BYTES = 16 << 20
"""Largest content of a compressed message; each copy of it holds the interpreter lock for 5 ms."""
_SMALL_UNPACKED_BYTES = 1 << 20
"""Size in bytes up to which compressed messages are unpacked without taking turns."""
_unpacked = Turns(1)
"""Requests whose compressed messages are larger: together they would fill the memory."""
_ANY_FORMAT = 32 + zlib.MAX_WBITS
"""Lets zlib read both compressions of gRPC, gzip and deflate (RFC 1952, RFC 1950)."""


@contextmanager
def conversion(size: int, arrived: int = 0) -> Iterator[None]:
    """Hold the conversion of some bytes of a request in the block.

    Where they are many, wait for the turn of this thread, and pause after the block for as long as
    it took. Without the pause, other requests would wait for the next conversion each time that
    they need the interpreter lock.

    Args:
        size: Number of bytes that are converted.
        arrived: Size of the message that the request has just arrived in; 0 if it was converted
            before.
    """
    if size <= _SMALL_BYTES:
        yield
        return
    with _one_at_a_time:
        began = time.monotonic()
        try:
            yield
        finally:
            copied = arrived * _PAUSE_PER_BYTE_S if arrived > LARGE_BYTES else 0.0
            time.sleep(max(time.monotonic() - began, copied))


@contextmanager
def unpacked(data: bytes, call: Call) -> Iterator[bytes]:
    """Hold the content of a message in the block, which is the rest of its request.

    gRPC itself would unpack messages in the thread that serves all connections, and all of those
    that arrive: 1 MB could become 1 GiB.

    Args:
        data: The message, which may be compressed.
        call: The request, which is long if its content is large.

    Raises:
        LongCall: The call does not know yet that it is long.
        StatusError: RESOURCE_EXHAUSTED, the content is too large; INVALID_ARGUMENT, it is damaged.
    """
    # gRPC does not tell whether a message is compressed. The first bytes of both formats begin no
    # message that a service of this server takes.
    if data[:2] != b"\x1f\x8b" and (data[:1] != b"\x78" or int.from_bytes(data[:2]) % 31):
        yield data
        return
    stream = zlib.decompressobj(_ANY_FORMAT)
    content = _expanded(stream, data, _SMALL_UNPACKED_BYTES)
    if stream.eof:
        yield content
        return
    if not call.is_long:
        raise LongCall(call)
    with _unpacked.turn():
        call.check()
        content += _expanded(stream, stream.unconsumed_tail, MAX_UNPACKED_BYTES - len(content))
        call.size = len(content)
        if not stream.eof and stream.unconsumed_tail:
            raise StatusError(
                Code.RESOURCE_EXHAUSTED,
                f"Decompressed message larger than max ({MAX_UNPACKED_BYTES >> 20} MiB). Send "
                "fewer rows at once, or without compression.",
            )
        if not stream.eof:
            raise invalid("The compressed message is cut off.")
        yield content


def _expanded(stream: zlib._Decompress, data: bytes, most: int) -> bytes:
    """Expand no more than `most` bytes."""
    try:
        return stream.decompress(data, most)
    except zlib.error as error:
        raise invalid(f"The compressed message is damaged: {error}.") from error
