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
from collections.abc import Callable
from typing import cast

import uvicorn

from imgpipe.serving.server.rest.protocol import HttpProtocol
from imgpipe.serving.server.tls import Certificates

HANDSHAKE_S = 10.0
"""For a TLS handshake, s."""
MAX_HANDSHAKES = 128
"""TLS handshakes under way. An honest client needs some milliseconds for one."""
_SHUTDOWN_S = 5.0
"""For the other side to agree to the end of a TLS connection, s."""
_RETRY_S = 0.05
"""Between two attempts when the system has no room for a connection, s."""


class Acceptor:
    """Accepts connections until it is closed. It stands in for an ``asyncio.Server``.

    Args:
        bound: a listening socket.
        protocol: makes the protocol of a connection.
        certificates: for TLS, or None.
        connections: those that are open, kept by uvicorn.
        room: connections that may be open; beyond it idle ones are closed.
    """

    def __init__(
        self,
        bound: socket.socket,
        protocol: Callable[[], HttpProtocol],
        certificates: Certificates | None,
        connections: set[HttpProtocol],
        room: int,
    ) -> None:
        self._socket, self._protocol, self._certificates = bound, protocol, certificates
        self._connections, self._room = connections, room
        self._greeted: dict[asyncio.Task[None], None] = {}  # oldest first
        self._socket.setblocking(False)
        self._task = asyncio.get_running_loop().create_task(self._accept())

    def close(self) -> None:
        """Accept nothing more; open connections stay."""
        self._task.cancel()
        for task in self._greeted:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until ``close`` is done."""
        await asyncio.gather(self._task, *self._greeted, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._socket)
            except OSError:  # too many open files, or the client has left already
                self._make_room()
                await asyncio.sleep(_RETRY_S)
                continue
            if len(self._greeted) >= MAX_HANDSHAKES or self._is_full():
                self._make_room()
            task = loop.create_task(self._greet(connection))
            self._greeted[task] = None
            task.add_done_callback(lambda done: self._greeted.pop(done, None))
            await asyncio.sleep(0)  # others run too while there is always one more to accept

    def _is_full(self) -> bool:
        return len(self._connections) + len(self._greeted) >= self._room

    def _make_room(self) -> None:
        """End the oldest handshake, or else the connection that has been idle longest."""
        if self._greeted and self._certificates:
            oldest = next(iter(self._greeted))
            del self._greeted[oldest]
            oldest.cancel()
            return
        idle = [one for one in self._connections if one.may_go]
        if idle:
            min(idle, key=lambda one: (one.cycle is not None, one.since)).transport.abort()

    async def _greet(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        tls = self._certificates.context if self._certificates else None
        with contextlib.suppress(OSError):  # a failed handshake is the client's
            try:
                await loop.connect_accepted_socket(
                    self._protocol,
                    connection,
                    ssl=tls,
                    ssl_handshake_timeout=HANDSHAKE_S if tls else None,
                    ssl_shutdown_timeout=_SHUTDOWN_S if tls else None,
                )
            except asyncio.CancelledError:
                # asyncio closes it only once the handshake has begun.
                connection.shutdown(socket.SHUT_RDWR)
                raise


class BoundedServer(uvicorn.Server):
    """uvicorn's server, with an ``Acceptor`` for each of its sockets."""

    def __init__(
        self, config: uvicorn.Config, certificates: Certificates | None, room: int
    ) -> None:
        super().__init__(config)
        self._certificates, self._room = certificates, room

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept. There is no lifespan, and sockets are always given."""

        def protocol() -> HttpProtocol:
            return HttpProtocol(self.config, self.server_state, {})

        connections = cast("set[HttpProtocol]", self.server_state.connections)
        acceptors = [
            Acceptor(bound, protocol, self._certificates, connections, self._room)
            for bound in sockets or []
        ]
        self.servers = cast("list[asyncio.Server]", acceptors)
        self.started = True
