"""Request bodies, which are read and decompressed up to a limit."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from imgpipe.serving.server.status import Code, StatusError, invalid

Receive = Callable[[], Awaitable[Any]]
_GZIP = 16 + zlib.MAX_WBITS
_MEGA = 1 << 20
_PIECE = 64 << 10


class TooLarge(StatusError):
    """A body beyond its bound: 413 in HTTP, RESOURCE_EXHAUSTED as in gRPC."""

    def __init__(self, most: int) -> None:
        super().__init__(
            Code.RESOURCE_EXHAUSTED,
            f"The body of the request is larger than {most / _MEGA:g} MiB. Send fewer rows at "
            "once, or use gRPC.",
        )


class TooMany(TooLarge):
    """A body of too many values: 413 as well."""

    def __init__(self, most: int) -> None:
        StatusError.__init__(
            self,
            Code.RESOURCE_EXHAUSTED,
            f"The body of the request holds more than {most:,} values (numbers, strings, lists and "
            "objects). Send fewer rows at once, send images as encoded bytes, or use gRPC.",
        )


class Gone(Exception):
    """The client has left before its request was whole."""


class Budget:
    """Bytes that all bodies under way may take together. Of one thread."""

    def __init__(self, most: int) -> None:
        self._most, self._held = most, 0

    def take(self, size: int) -> None:
        """Count ``size`` more bytes.

        Raises:
            StatusError: RESOURCE_EXHAUSTED.
        """
        if self._held + size > self._most:
            raise StatusError(
                Code.RESOURCE_EXHAUSTED,
                "The server is overloaded: large requests fill its memory. Try again later, or "
                "elsewhere.",
            )
        self._held += size

    def give_back(self, size: int) -> None:
        """The bytes are gone."""
        self._held -= size


async def read(receive: Receive, announced: str, most: int, budget: Budget) -> bytes:
    """The whole body; its size stays taken from ``budget``.

    Args:
        receive: of ASGI.
        announced: the Content-Length header, or nothing.
        most: bytes that are taken.
        budget: of all bodies.

    Raises:
        TooLarge: it is larger, or says so.
        StatusError: RESOURCE_EXHAUSTED, the budget is spent.
        Gone: the client has left.
    """
    if announced.isdecimal() and int(announced[:20]) > most:
        raise TooLarge(most)
    parts: list[bytes] = []
    size = 0
    try:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            part = message.get("body", b"")
            budget.take(len(part))
            size += len(part)
            if size > most:
                raise TooLarge(most)
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)
    except BaseException:
        budget.give_back(size)
        raise


async def discard(receive: Receive) -> None:
    """Take what is left of a body, and keep nothing."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


def decoded(body: bytes, encoding: str, most: int) -> bytes:
    """``body`` without its Content-Encoding.

    Raises:
        TooLarge: more than ``most`` bytes come out; they are never held.
        StatusError: INVALID_ARGUMENT, another encoding than gzip, or damaged data.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in ("gzip", "x-gzip"):
        raise invalid(f"Content-Encoding {encoding[:40]!r} is not known. Expected gzip, or none.")
    size = 0
    try:
        # Measured first: what is too large then costs no memory, and parsing costs far more time.
        for part in _unpacked(body):
            size += len(part)
            if size > most:
                raise TooLarge(most)
    except zlib.error as error:
        raise invalid(f"The gzip data of the request is damaged: {error}") from error
    return b"".join(_unpacked(body))


def _unpacked(body: bytes) -> Iterator[bytes]:
    """Pieces of what a file of one or more members holds."""
    view = memoryview(body)
    unpacker = zlib.decompressobj(_GZIP)
    for start in range(0, len(view), _PIECE):
        rest: Any = view[start : start + _PIECE]
        part = b""
        while rest or len(part) == _MEGA:  # a full piece may have left some inside
            if unpacker.eof:
                unpacker = zlib.decompressobj(_GZIP)
            part = unpacker.decompress(rest, _MEGA)
            yield part
            rest = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            if unpacker.eof and not rest:
                break
    if not unpacker.eof:
        raise invalid("The gzip data of the request is cut off.")
