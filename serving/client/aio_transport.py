"""Asyncio gRPC transport, in a module of its own since most clients do not import asyncio."""

from __future__ import annotations

from typing import Any, Protocol

import grpc
from grpc import aio

from imgpipe.serving.client.errors import closed, from_rpc
from imgpipe.serving.client.options import Connection
from imgpipe.serving.client.steps import Call
from imgpipe.serving.client.transport import multicallable


class Transport(Protocol):
    """Sends a call whose reply is awaited."""

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
        self._connection = connection
        self._channel: Any = None
        self._closed = False
        self._methods: dict[str, Any] = {}

    def _connected(self) -> Any:
        if self._closed:
            raise closed(self._connection.target)
        if self._channel is None:  # created late: a channel belongs to the running loop
            target, tls = self._connection.target, self._connection.tls
            options = self._connection.channel_arguments()
            compression = self._connection.grpc_compression()
            if tls is None:
                self._channel = aio.insecure_channel(target, options, compression)
            else:
                credentials = tls.credentials()
                self._channel = aio.secure_channel(target, credentials, options, compression)
        return self._channel

    async def call(self, call: Call) -> Any:
        """Send ``call`` and return its reply.

        Raises:
            ServingError: The server refuses the request or does not answer.
        """
        path, target = call.method.path, self._connection.target
        channel = self._connected()
        if path not in self._methods:
            self._methods[path] = multicallable(channel, call.method)
        method = self._methods[path]
        try:
            return await method(
                call.request,
                timeout=call.timeout,
                wait_for_ready=call.wait_for_ready,
                metadata=self._connection.call_metadata(),
            )
        except grpc.RpcError as error:
            raise from_rpc(error, target, call.timeout) from error
        except aio.UsageError as error:
            raise closed(target) from error

    async def close(self) -> None:
        """Close the channel and cancel the calls in flight."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close()
