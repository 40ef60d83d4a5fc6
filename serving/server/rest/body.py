"""Reading and decompression of request bodies up to a limit."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from imgpipe.serving.server.status import Code, StatusError, invalid

Receive = Callable[[], Awaitable[Any]]
_GZIP = 16 + zlib.MAX_WBITS
"""The window size by which zlib expects a header of gzip."""
_MEGA = 1 << 20
_PIECE = 64 << 10
"""Bytes of compressed data that are decompressed at once."""
_SMALL = 64 << 10
"""Largest size in bytes of a body that does not count towards the memory of all bodies."""
_DISCARD_S = 1.0
"""Seconds in which the rest of a refused body is still read."""


class TooLarge(StatusError):
    """A body is larger, or has more values, than allowed: HTTP 413, RESOURCE_EXHAUSTED in gRPC."""

    def __init__(self, excess: str) -> None:
        super().__init__(Code.RESOURCE_EXHAUSTED, f"The body of the request {excess}")


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"is larger than {most / _MEGA:g} MiB. Send fewer rows at once, or use gRPC.")


class ClientDisconnected(Exception):
    """The client closed the connection before its request was complete."""


class Budget:
    """Limits the memory of all large request bodies together. Only one thread may use it.

    Small bodies do not count, so that they are answered while large ones fill the memory. The limit
    of connections bounds them.
    """

    def __init__(self, most: int) -> None:
        """Create a budget of ``most`` bytes."""
        self._most, self._held = most, 0

    def grow(self, before: int, after: int) -> None:
        """Count a body that has grown from ``before`` to ``after`` bytes.

        Raises:
            StatusError: RESOURCE_EXHAUSTED, the budget is used up.
        """
        size = _counted(after) - _counted(before)
        if self._held + size > self._most:
            raise StatusError(
                Code.RESOURCE_EXHAUSTED,
                "The server is overloaded: large requests fill its memory. Try again later, or "
                "use another server.",
            )
        self._held += size

    def give_back(self, size: int) -> None:
        """Return a body of ``size`` bytes to the budget."""
        self._held -= _counted(size)


def _counted(size: int) -> int:
    return size if size > _SMALL else 0


async def read(receive: Receive, announced: str, most: int, budget: Budget) -> bytes:
    """Read the whole body and take its size from ``budget``; the caller gives it back.

    Args:
        receive: ASGI's function that returns the next message.
        announced: The Content-Length header, or an empty string.
        most: Largest allowed size in bytes.
        budget: The budget of all bodies.

    Raises:
        TooLarge: The body is larger than ``most``, or its header says so.
        StatusError: RESOURCE_EXHAUSTED, the budget is used up.
        ClientDisconnected: The client closed the connection.
    """
    # 20 digits are more than any limit; int() raises ValueError for more than 4,300 digits.
    if announced.isdecimal() and int(announced[:20]) > most:
        raise _too_large(most)
    parts: list[bytes] = []
    size = 0
    try:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            part = message.get("body", b"")
            budget.grow(size, size + len(part))
            size += len(part)
            if size > most:
                raise _too_large(most)
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)
    except BaseException:
        budget.give_back(size)
        raise


async def discard(receive: Receive) -> None:
    """Read the rest of a refused body for at most a second, without keeping it.

    A client that still sends when the connection ends never sees the answer (RFC 9112, section
    9.6).
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_S):
            while (await receive()).get("more_body", False):
                pass


def decoded(body: bytes, encoding: str, most: int) -> bytes:
    """Decode the Content-Encoding of a body.

    Args:
        body: The body as it was sent.
        encoding: The Content-Encoding header, or an empty string.
        most: Largest allowed size of the result in bytes.

    Raises:
        TooLarge: The result is larger than ``most``; it is never held in memory.
        StatusError: INVALID_ARGUMENT, the encoding is not gzip, or the data are damaged.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in ("gzip", "x-gzip"):
        raise invalid(f"Content-Encoding {encoding[:40]!r} is not known. Expected gzip, or none.")
    size = 0
    try:
        # The size is measured first, so that a body that is too large takes no memory. The second
        # decompression takes little time compared with parsing.
        for part in _unpacked(body):
            size += len(part)
            if size > most:
                raise _too_large(most)
    except zlib.error as error:
        raise invalid(f"The gzip data of the request is damaged: {error}") from error
    return b"".join(_unpacked(body))


def _unpacked(body: bytes) -> Iterator[bytes]:
    """Yield the decompressed pieces of gzip data, which may consist of several members."""
    view = memoryview(body)
    unpacker = zlib.decompressobj(_GZIP)
    for start in range(0, len(view), _PIECE):
        rest: Any = view[start : start + _PIECE]
        part = b""
        while rest or len(part) == _MEGA:  # after a full piece, the unpacker may hold more data
            if unpacker.eof:
                unpacker = zlib.decompressobj(_GZIP)
            part = unpacker.decompress(rest, _MEGA)
            yield part
            rest = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            if unpacker.eof and not rest:
                break
    if not unpacker.eof:
        raise invalid("The gzip data of the request is cut off.")
