"""Asyncio gRPC transport, in a module of its own since most clients do not import asyncio."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any, Protocol

import grpc
from grpc import aio

from imgpipe.serving.client.errors import closed, from_rpc
from imgpipe.serving.client.options import Connection
from imgpipe.serving.client.protos import Method
from imgpipe.serving.client.steps import Call
from imgpipe.serving.client.transport import multicallable, open_channel


class Transport(Protocol):
    """Sends a call whose reply is awaited; see ``transport.Transport``."""

    async def call(self, call: Call) -> Any:
        """Send ``call`` and return its reply.

        Raises:
            ServingError: The server refuses the request or does not answer.
        """

    async def close(self) -> None:
        """Close the transport and cancel the calls in flight."""


def transport_to(connection: Connection) -> Transport:
    """Return the transport for the address: REST for ``http(s)://``, otherwise gRPC."""
    if connection.rest:
        from imgpipe.serving.client.rest import AioRestTransport

        return AioRestTransport(connection)
    return AioTransport(connection)


class AioTransport:
    """Transport over a gRPC channel of the running event loop."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._metadata = connection, connection.call_metadata()
        self._channel: Any = None
        self._closed = False

    @functools.cached_property
    def _method(self) -> Callable[[Method], Any]:
        # Opened by the first call, because a channel belongs to the running event loop.
        self._channel = open_channel(aio, self._connection)
        return functools.cache(functools.partial(multicallable, self._channel))

    async def call(self, call: Call) -> Any:
        """Send ``call`` and return its reply.

        Raises:
            ServingError: The server refuses the request or does not answer.
        """
        target = self._connection.target
        if self._closed:
            raise closed(target)
        try:
            return await self._method(call.method)(
                call.request,
                timeout=call.timeout,
                wait_for_ready=call.wait_for_ready,
                metadata=self._metadata,
            )
        except grpc.RpcError as error:
            raise from_rpc(error, target, call.timeout) from error
        except aio.UsageError as error:
            raise closed(target) from error
        except asyncio.CancelledError as error:
            # gRPC ends the calls in flight of a channel that is closed as if their tasks were
            # cancelled.
            task = asyncio.current_task()
            if not self._closed or (task is not None and task.cancelling()):
                raise
            raise closed(target) from error

    async def close(self) -> None:
        """Close the channel and cancel the calls in flight."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close()
