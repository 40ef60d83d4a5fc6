"""Accepts the connections of the REST port up to a limit.

uvicorn and asyncio accept every connection and allow a minute for a TLS handshake: 1,100 silent
connections used all open files of the process and blocked REST and gRPC. Here a handshake has a
deadline, the number of simultaneous handshakes is bounded, and the longest silent one is closed
first.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import cast

import uvicorn

from imgpipe.serving.server.rest.protocol import HttpProtocol

HANDSHAKE_S = 10.0
"""Timeout of a TLS handshake."""
MAX_HANDSHAKES = 128
"""Largest number of simultaneous TLS handshakes. Each takes a well-behaved client milliseconds."""
_AT_ONCE = 16
"""Plain connections that are accepted before other tasks run. With one, the last of 200 clients
whose requests kept the event loop busy waited 16 s for the first byte."""
_SHUTDOWN_S = 5.0
"""Timeout for the client to confirm the end of a TLS connection."""
_RETRY_S = 0.05
"""Pause after the system could not accept a connection."""


class Acceptor:
    """Accepts connections until it is closed. It stands in for an ``asyncio.Server``.

    Args:
        bound: A listening socket.
        protocol: Creates the protocol of a connection.
        tls: The context for TLS; None for plain HTTP.
        connections: The open connections, which uvicorn keeps up to date.
        limit: Number of open connections beyond which idle ones are closed.
    """

    def __init__(
        self,
        bound: socket.socket,
        protocol: Callable[[], HttpProtocol],
        tls: ssl.SSLContext | None,
        connections: set[HttpProtocol],
        limit: int,
    ) -> None:
        self._socket, self._protocol, self._tls = bound, protocol, tls
        self._connections, self._limit = connections, limit
        # Connections that uvicorn does not know yet, the oldest first: TLS handshakes above all.
        self._starting: dict[asyncio.Task[None], None] = {}
        self._socket.setblocking(False)
        self._task = asyncio.get_running_loop().create_task(self._accept())

    def close(self) -> None:
        """Accept no more connections; open connections stay open."""
        self._task.cancel()
        for task in self._starting:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until ``close`` has finished."""
        await asyncio.gather(self._task, *self._starting, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        at_once = 1 if self._tls else _AT_ONCE  # a handshake takes milliseconds
        accepted = 0
        while True:
            try:
                connection, _ = await loop.sock_accept(self._socket)
            except OSError:  # too many open files, or the client has left already
                self._make_room()
                await asyncio.sleep(_RETRY_S)
                continue
            if len(self._starting) >= MAX_HANDSHAKES or self._is_full():
                self._make_room()
            task = loop.create_task(self._start(connection))
            self._starting[task] = None
            task.add_done_callback(lambda done: self._starting.pop(done, None))
            accepted += 1
            if accepted % at_once == 0 or self._is_full(at_once):
                await asyncio.sleep(0)  # let other tasks run while more connections wait

    def _is_full(self, more: int = 0) -> bool:
        return len(self._connections) + len(self._starting) + more >= self._limit

    def _make_room(self) -> None:
        """End the oldest handshake, or else the connection that has been idle longest."""
        if self._starting and self._tls:
            handshake = next(iter(self._starting))
            del self._starting[handshake]
            handshake.cancel()
            return
        idle = [protocol for protocol in self._connections if protocol.may_go]
        # A connection that has never sent a request is closed before all others.
        if idle:
            oldest = min(idle, key=lambda protocol: (protocol.cycle is not None, protocol.since))
            oldest.transport.abort()

    async def _start(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        tls = self._tls
        with contextlib.suppress(OSError):  # a failed handshake is an error of the client
            try:
                await loop.connect_accepted_socket(
                    self._protocol,
                    connection,
                    ssl=tls,
                    ssl_handshake_timeout=HANDSHAKE_S if tls else None,
                    ssl_shutdown_timeout=_SHUTDOWN_S if tls else None,
                )
            except asyncio.CancelledError:
                # Before the handshake begins, asyncio does not close the connection itself.
                connection.shutdown(socket.SHUT_RDWR)
                raise


class BoundedServer(uvicorn.Server):
    """uvicorn's server, with an ``Acceptor`` for each of its sockets."""

    def __init__(self, config: uvicorn.Config, tls: ssl.SSLContext | None, limit: int) -> None:
        super().__init__(config)
        self._tls, self._limit = tls, limit

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections. There is no lifespan, and the sockets are always given."""

        def protocol() -> HttpProtocol:
            return HttpProtocol(self.config, self.server_state, {})

        connections = cast("set[HttpProtocol]", self.server_state.connections)
        acceptors = [
            Acceptor(bound, protocol, self._tls, connections, self._limit)
            for bound in sockets or []
        ]
        self.servers = cast("list[asyncio.Server]", acceptors)
        self.started = True
