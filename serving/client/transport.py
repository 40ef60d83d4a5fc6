"""Blocking gRPC transport, and the choice between gRPC and REST."""

from __future__ import annotations

import functools
from typing import Any, Protocol

import grpc

from imgpipe.serving.client.errors import closed, from_rpc
from imgpipe.serving.client.options import Connection
from imgpipe.serving.client.protos import Method
from imgpipe.serving.client.steps import Call


class Transport(Protocol):
    """Sends a call and blocks until the reply arrives; threads may share one transport."""

    def call(self, call: Call) -> Any:
        """Send ``call`` and return its reply.

        Raises:
            ServingError: The server refuses the request or does not answer.
        """

    def close(self) -> None:
        """Close the transport and cancel the calls in flight."""


def transport_to(connection: Connection) -> Transport:
    """Return the transport for the address: REST for ``http(s)://``, otherwise gRPC."""
    if connection.rest:
        from imgpipe.serving.client.rest import RestTransport

        return RestTransport(connection)
    return GrpcTransport(connection)


def open_channel(library: Any, connection: Connection) -> Any:
    """Return a channel to the server, made by ``grpc`` or by ``grpc.aio``."""
    options = connection.channel_arguments()
    compression = grpc.Compression.Gzip if connection.compression else None
    if connection.tls is None:
        return library.insecure_channel(connection.target, options, compression)
    credentials = connection.tls.credentials()
    return library.secure_channel(connection.target, credentials, options, compression)


def multicallable(channel: Any, method: Method) -> Any:
    """Return the callable with which a channel, blocking or asyncio, calls ``method``."""
    return channel.unary_unary(
        method.path,
        # Deterministic: the same inputs become the same bytes, whatever the order of a dict.
        request_serializer=lambda message: message.SerializeToString(deterministic=True),
        response_deserializer=method.response.FromString,
    )


class GrpcTransport:
    """Transport over a blocking gRPC channel."""

    def __init__(self, connection: Connection) -> None:
        self._target, self._metadata = connection.target, connection.call_metadata()
        self._channel = open_channel(grpc, connection)
        self._method = functools.cache(functools.partial(multicallable, self._channel))

    def call(self, call: Call) -> Any:
        """Send ``call`` and return its reply.

        Raises:
            ServingError: The server refuses the request or does not answer.
        """
        try:
            return self._method(call.method)(
                call.request,
                timeout=call.timeout,
                wait_for_ready=call.wait_for_ready,
                metadata=self._metadata,
            )
        except grpc.RpcError as error:
            raise from_rpc(error, self._target, call.timeout) from error
        except ValueError as error:  # gRPC raises ValueError on a closed channel
            raise closed(self._target) from error

    def close(self) -> None:
        """Close the channel and cancel the calls in flight."""
        self._channel.close()
