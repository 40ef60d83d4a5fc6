"""HTTP/1.1 protocol of one connection: uvicorn's httptools protocol with timeouts and limits.

The parser (llhttp, the one of Node.js) refuses what invites request smuggling: Content-Length
together with Transfer-Encoding (RFC 9112, section 6.1), two lengths, and lines that end with a bare
line feed. uvicorn limits neither the size of a head nor its duration; this protocol limits both.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

IDLE_S = 60
"""Seconds until a connection is closed that has no request, or whose client reads no answer."""
HEAD_S = 10.0
"""Seconds for a complete head from its first byte, and for the first byte after connecting."""
MAX_HEAD_BYTES = 64 << 10
"""Largest size of the request line and the headers together, and of the trailers of a body."""
_INVALID = "Invalid HTTP request received."


class HttpProtocol(HttpToolsProtocol):
    """Closes connections whose heads are too slow or too large, and whose clients do not read."""

    since = 0.0
    """Time of the last answer, or of the connection, on the clock of the event loop."""
    _head_timer: asyncio.TimerHandle | None = None
    _answer_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    """Size of the URL and the headers parsed so far."""
    _pending_bytes = 0
    """Bytes received since the last complete head or part of a body; the parser may hold them."""
    _repeats_head = False
    """Whether the parser reads the framing of a request whose head has been parsed before."""

    @property
    def is_idle(self) -> bool:
        """Whether no request is being received or answered."""
        return self.cycle is None or bool(self.cycle.response_complete)

    @property
    def may_go(self) -> bool:
        """Whether the connection may be ended in favour of others."""
        return self.is_idle and not self.transport.is_closing()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.since = self.loop.time()
        self._head_timer = self.loop.call_later(HEAD_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._pending_bytes += len(data)
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self.send_400_response(_INVALID)
        if self.transport.is_closing():
            return
        # What the parser holds back of an unfinished line or of trailers has not been counted yet.
        if self._pending_bytes > MAX_HEAD_BYTES:
            self.send_400_response(_INVALID)
        elif not self.is_idle:
            self._stop_head_timer()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_S, self.transport.abort)

    def _feed(self, data: bytes) -> None:
        """Parse ``data``, and ignore requests to change the protocol (RFC 9110, section 7.8).

        Java's HttpClient and ``curl --http2`` ask for HTTP/2 in an ordinary request. The parser
        then stops before the body, which uvicorn loses
        (https://github.com/Kludex/uvicorn/issues/2722). Here a new parser continues after a head
        without the upgrade.
        """
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
            # The new parser only needs to know where the body ends.
            framing = [
                name + b": " + value
                for name, value in self.headers
                if name in (b"content-length", b"transfer-encoding")
            ]
            self.parser = httptools.HttpRequestParser(self)
            self._repeats_head = True
            self.parser.feed_data(b"\r\n".join([b"POST / HTTP/1.1", *framing, b"", b""]))

    def on_message_begin(self) -> None:
        if not self._repeats_head:
            super().on_message_begin()
            self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        if not self._repeats_head:
            self._count(len(url))
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._repeats_head:
            self._count(len(name) + len(value))
            super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        # The parser stops at an exception of a callback, and ``data_received`` answers with 400.
        if self._head_bytes > MAX_HEAD_BYTES:
            raise httptools.HttpParserError(f"The head is larger than {MAX_HEAD_BYTES} bytes.")

    def on_headers_complete(self) -> None:
        """Check the Host header of a request.

        Raises:
            HttpParserError: There are several Host headers, or none in HTTP/1.1. The parser passes
                the error on, and ``data_received`` answers with 400.
        """
        if self._repeats_head:
            self._repeats_head = False
            return
        self._pending_bytes = self._head_bytes = 0
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
            raise httptools.HttpParserError("A request has one Host header (RFC 9112, 3.2).")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._pending_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._pending_bytes = 0
        if not self.parser.should_upgrade():  # otherwise the body has not been parsed yet
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self.since = self.loop.time()
        self._stop_head_timer()
        super().on_response_complete()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def pause_writing(self) -> None:
        # The buffer of the transport is full, because the client does not read its answer.
        super().pause_writing()
        self._answer_timer = self.loop.call_later(IDLE_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        if self._answer_timer is not None:
            self._answer_timer.cancel()
        super().connection_lost(exc)
