"""Bodies of requests, read and decompressed within bounds."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable
from typing import Any

from serving.server.status import Code, StatusError, invalid

Receive = Callable[[], Awaitable[Any]]
_GZIP = 16 + zlib.MAX_WBITS
_MEGA = 1 << 20


class TooLarge(StatusError):
    """A body beyond its bound: 413 in HTTP, RESOURCE_EXHAUSTED as in gRPC."""

    def __init__(self, most: int) -> None:
        super().__init__(
            Code.RESOURCE_EXHAUSTED,
            f"The body of the request is larger than {most / _MEGA:g} MiB. Send fewer rows at "
            "once, or use gRPC.",
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


def decoded(body: bytes, encoding: str, most: int) -> bytes:
    """``body`` without its Content-Encoding.

    Raises:
        TooLarge: more than ``most`` bytes come out; no more than these were made.
        StatusError: INVALID_ARGUMENT, another encoding than gzip, or damaged data.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in ("gzip", "x-gzip"):
        raise invalid(f"Content-Encoding {encoding[:40]!r} is not known. Expected gzip, or none.")
    parts: list[bytes] = []
    left = most
    while body:
        unpacker = zlib.decompressobj(_GZIP)
        try:
            parts.append(unpacker.decompress(body, left + 1))
        except zlib.error as error:
            raise invalid(f"The gzip data of the request is damaged: {error}") from error
        left -= len(parts[-1])
        if left < 0:
            raise TooLarge(most)
        if not unpacker.eof:
            raise invalid("The gzip data of the request is cut off.")
        body = unpacker.unused_data
    return b"".join(parts)
