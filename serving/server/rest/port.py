"""A port for HTTP/1.1: uvicorn in a thread of its own, for the REST interface and for pages.

It refuses requests of this machine that name another host, whatever their paths are.

uvicorn's parser h11 limits the size of a head, refuses two lengths or two Host headers, and does
not read a body faster than the application takes it. It accepts some requests that invite
smuggling, such as lines that end with a bare line feed. That needs a proxy which reads them in
another way; a proxy for the open internet writes such requests anew.
"""

from __future__ import annotations

import asyncio
import functools
import math
import ssl
import threading
import time
from collections.abc import Sequence
from typing import Any

import h11
import uvicorn
from starlette.requests import Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from imgpipe.serving.server import ports
from imgpipe.serving.server.rest.requests import HEALTH, check_host, host_name, refusal
from imgpipe.serving.server.status import Code, StatusError, invalid

HEAD_S = 10.0
"""Seconds for a complete head from its first byte, and for the first byte after connecting."""
_FOR_HEALTH = 1 / 16
"""Fraction of the connections that are left for health checks while all others have a request."""
_SHARE = 0.5
"""Fraction of the open files of the process that connections may use. Those of gRPC may use another
quarter, so that a quarter is left for the files of models and logs."""
_MOST_PARTS = 1000
"""Headers of a request, together with its chunks; see `_LEAST_CHUNK`."""
_LEAST_CHUNK = 1024
"""Mean size in bytes of the chunks of a body from which any number of them is read."""
_ACCEPTED_AT_ONCE = 16
"""Connections that are accepted before other tasks run; 1,500 at once take 0.4 s."""
_START_S = 20.0
_POLL_S = 0.01
#: Addresses that stand for all networks of this machine, and those at which a browser opens them,
#: because connections from this machine must name it by those (`requests.check_host`).
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def host_to_open(host: str) -> str:
    """Return the host in the address of a page, with brackets around an IPv6 address.

    Args:
        host: The address to which the server is bound, with or without brackets.
    """
    bare = host.strip("[]")
    bare = _LOOPBACK.get(bare, bare)
    return f"[{bare}]" if ":" in bare else bare


class _Connection(h11.Connection):
    """A connection that refuses requests of very many small parts, which Python reads one by one.

    Chunks of a byte, 7 MB together, held up all other clients for a minute.
    """

    _parts = _bytes = 0
    refusal = ""
    """Why a request was refused."""

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._parts = len(event.headers)
            self._bytes = 0
        elif isinstance(event, h11.Data):
            self._parts += event.chunk_start
            self._bytes += len(event.data)
        if self._parts > _MOST_PARTS + self._bytes // _LEAST_CHUNK:
            self.refusal = (
                f"The request has more than {_MOST_PARTS:,} headers, or as many chunks of less "
                f"than {_LEAST_CHUNK:,} bytes on average. Send the body whole, with its length."
            )
            raise h11.RemoteProtocolError(self.refusal)
        return event


class _Protocol(H11Protocol):
    """uvicorn's protocol of a connection, which ends if its head or its client is too slow.

    Args:
        idle: The connections of the port without a request, in the order in which they became so.
        most: Number of connections beyond which the one that has been idle for longest is closed
            for a new one. If all have a request, those of further ones are answered with 503.
        last: Number of connections beyond which new ones are closed.
        **uvicorn: What uvicorn hands over.
    """

    _timer: asyncio.TimerHandle | None = None

    def __init__(self, idle: dict[_Protocol, None], most: int, last: int, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self.conn = self._parser = _Connection(h11.SERVER)
        self._idle = idle
        self._most = most
        self._last = last

    def _end_in(self, seconds: float | None) -> None:
        """End the connection in `seconds` unless this is called again; None for never."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._abort)

    def _abort(self) -> None:
        self._idle.pop(self, None)
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._end_in(HEAD_S)
        if len(self.connections) > self._most and self._idle:
            next(iter(self._idle))._abort()
        elif len(self.connections) > self._last:
            self._abort()
        self._idle[self] = None

    def send_400_response(self, msg: str) -> None:
        super().send_400_response(self._parser.refusal or msg)

    def on_response_complete(self) -> None:
        self._idle[self] = None
        super().on_response_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._idle.pop(self, None)
            self._end_in(None)  # the application limits the time of a body and of an answer
        elif self._timer is None:
            self._end_in(HEAD_S)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._end_in(ports.IDLE_S)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._end_in(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.pop(self, None)
        self._end_in(None)
        super().connection_lost(exc)


class HttpPort:
    """A port that answers with an ASGI application.

    Args:
        host: Address to listen on.
        port: Number of the port; 0 for any free one.
        another: How a person chooses another port, for the error.
        tls: The context of TLS; None for plain HTTP.
        allowed_hosts: Names of this machine in requests, as `requests.check_host` has them.

    Raises:
        ResourceError: The address cannot be listened on.
    """

    def __init__(
        self,
        host: str,
        port: int,
        another: str,
        tls: ssl.SSLContext | None = None,
        allowed_hosts: Sequence[str] = (),
    ) -> None:
        self._tls = tls
        self._socket = ports.bound(host, port, another)
        self.port: int = self._socket.getsockname()[1]
        self.running = 0
        """Number of requests without an answer so far."""
        self._last = ports.connections(_SHARE)
        self._most = self._last - math.ceil(_FOR_HEALTH * self._last)
        # People copy the name out of an address, with its scheme and port.
        self._allowed = [host_name(name.rpartition("//")[2]) for name in allowed_hosts]
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return 0 if self._server is None else len(self._server.server_state.connections)

    def start(self, app: Any) -> None:
        """Begin to answer requests with an ASGI application."""
        self._app = app
        tls = self._tls
        config = uvicorn.Config(
            self._answer,
            loop="asyncio",
            http=functools.partial(_Protocol, {}, self._most, self._last),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,  # otherwise uvicorn would configure the logging of the process
            log_level="error",  # errors of clients are not logged
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=_ACCEPTED_AT_ONCE,  # asyncio accepts as many before other tasks run
            timeout_keep_alive=ports.IDLE_S,
            timeout_graceful_shutdown=1,  # `stop` has waited for the requests before
            ssl_context_factory=None if tls is None else lambda *_: tls,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="http", daemon=True
        )
        self._thread.start()
        end = time.monotonic() + _START_S
        while not self._server.started and self._thread.is_alive() and time.monotonic() < end:
            time.sleep(_POLL_S)
        self._socket.listen(ports.BACKLOG)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        app = self._app
        try:
            self._check(Request(scope))
        except StatusError as error:
            app = refusal(error)
            app.headers["Connection"] = "close"  # the body of the request is not read
        self.running += 1
        try:
            await app(scope, receive, send)
        finally:
            self.running -= 1

    def _check(self, request: Request) -> None:
        """Refuse a request of two lengths, for another host, or over too many connections."""
        if {"content-length", "transfer-encoding"} <= set(request.headers):  # RFC 9112, section 6.1
            raise invalid("A request has one length.")
        check_host(request, self._allowed)
        if self.connections > self._most and not request.url.path.startswith(HEALTH):
            raise StatusError(Code.UNAVAILABLE, "Too many connections. Try again later.")

    def wait(self) -> None:
        """Wait until the port is closed, so that the main thread can still receive signals."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(0.2)

    def stop(self, grace: float) -> bool:
        """Wait at most `grace` seconds for running requests, then close the port.

        Returns:
            Whether all requests have finished.
        """
        end = time.monotonic() + grace
        while self.running and time.monotonic() < end:
            time.sleep(_POLL_S)
        finished = not self.running
        if self._server is not None and self._thread is not None:
            # Without it, uvicorn would wait for requests that are cut off here.
            self._server.force_exit = not finished
            self._server.should_exit = True
            self._thread.join(5)
        self._socket.close()
        return finished
