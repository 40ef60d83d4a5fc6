"""The gRPC port: gRPC's asyncio server, in the event loop of the ports.

A request only takes a thread when it has arrived completely. With gRPC's threaded server, a client
that opened streams and sent nothing on them blocked all other clients.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from imgpipe.models.errors import ResourceError
from imgpipe.serving.server import ports
from imgpipe.serving.server.settings import ServerSettings

MAX_STREAMS = 64
"""Simultaneous requests on one connection; clients hold back further ones until some have ended."""
WINDOW_BYTES = 64 << 10
"""What gRPC takes of each message before it is read. Larger ones then wait at their clients."""
_UNKNOWN_METHOD = (
    "This server does not answer this method. Ask tensorflow.serving.PredictionService/Predict: in "
    "models of imgpipe, the signature serving_default takes image files, and serving_examples "
    "takes tf.Examples."
)
PING_MS = 5_000
"""Least time between two pings of a client. Ours pings every 30 s, and those in Go every 10 s at
most, also while they wait for no answer. With gRPC's defaults of 5 minutes, and of 2 hours without
a request, the server would end their connections
(https://github.com/grpc/grpc/blob/master/doc/keepalive.md)."""
HANDSHAKE_S = 5.0
"""Timeout of the HTTP/2 handshake; the default of gRPC is two minutes."""
_SHARE = 0.25
"""Fraction of the open files of the process that connections may use."""
_UNLIMITED = (1 << 31) - 1
"""Largest message of gRPC."""
_AGAIN_S = 0.05
"""Seconds until a port that has ended and cannot be opened is tried again."""
_FINISH_S = 60.0
"""Seconds in which a server that has ended by itself may answer the requests that it runs."""
_MOST_FINISHING = 8
"""Such servers at a time, so that their memory is bounded; of more, the oldest ends at once."""
_log = logging.getLogger(__name__)
HEALTH_SERVICES = frozenset(["", "PredictionService", "ModelService"])
"""Names in health requests: the whole server, and those that TensorFlow Serving uses."""


class Health(health_pb2_grpc.HealthServicer):
    """The method Check of `grpc.health.v1`, which needs neither a thread nor a place."""

    def __init__(self, is_up: Callable[[], bool]) -> None:
        self._is_up = is_up

    async def Check(self, request: Any, context: Any) -> Any:
        """Return the state of a service, or NOT_FOUND for an unknown service."""
        if request.service not in HEALTH_SERVICES:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        state = health_pb2.HealthCheckResponse
        return state(status=state.SERVING if self._is_up() else state.NOT_SERVING)

    async def Watch(self, request: Any, context: Any) -> None:
        """Refuse a stream of states, so that clients take the server for healthy, or ask Check."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Use Check.")


async def _refuse_unknown(_: Any, context: Any) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, _UNKNOWN_METHOD)


class _Unknown(grpc.GenericRpcHandler):
    """Answers all methods that no other handler has."""

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler:
        return grpc.stream_unary_rpc_method_handler(_refuse_unknown)


class GrpcPort:
    """A gRPC server on one address.

    gRPC's server ends when a request names its method in bytes that are no UTF-8
    (https://github.com/grpc/grpc, aio/server.pyx.pxi, 1.85). A new one then takes its place, and
    clients connect again by themselves. The old one answers the requests that it runs.
    """

    def __init__(
        self,
        services: Mapping[str, Mapping[str, grpc.RpcMethodHandler]],
        health: Health,
        settings: ServerSettings,
    ) -> None:
        self._services = services
        self._health = health
        self._options = [
            ("grpc.max_concurrent_streams", MAX_STREAMS),
            # gRPC counts streams that have ended until it has freed them, and refuses others then:
            # of 100 requests at once on one connection, 34 failed. The limit above holds without.
            ("grpc.http.overload_protection", 0),
            ("grpc.server_handshake_timeout_ms", round(HANDSHAKE_S * 1000)),
            ("grpc.max_allowed_incoming_connections", ports.connections(_SHARE)),
            # Clients connect again by themselves.
            ("grpc.max_connection_idle_ms", ports.IDLE_S * 1000),
            # A client that has gone without a word holds its requests no longer than this.
            ("grpc.keepalive_time_ms", ports.IDLE_S * 500),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # otherwise two servers could share the port
            ("grpc.http2.min_ping_interval_without_data_ms", PING_MS),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.max_receive_message_length", min(settings.max_body_bytes, _UNLIMITED)),
            ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
            ("grpc.http2.bdp_probe", 0),  # which would raise it
            # gRPC itself refuses compressed messages, of which 1 MB could become 1 GiB.
            ("grpc.compression_enabled_algorithms_bitset", 1),
            ("grpc.per_message_decompression", 0),
        ]
        self._servers: list[Any] = []
        """The server that listens, behind those that have ended and answer their last requests."""
        self._finishing: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Future[Any]] = set()
        self._stopping = False
        self._following: asyncio.Task[None] | None = None

    async def start(self, target: str) -> int:
        """Listen on `host:port` and answer requests; return the port.

        ResourceError means that the server cannot listen there.
        """
        try:
            port = await self._open(target)
        except RuntimeError as error:  # which does not tell the cause
            host, _, number = target.rpartition(":")
            ports.bound(host, int(number), "--port").close()
            raise ResourceError(f"cannot listen on {target}: {error}.") from error
        host = target.rpartition(":")[0]
        self._following = asyncio.create_task(self._follow(f"{host}:{port}"))
        return port

    async def _open(self, target: str) -> int:
        server = grpc.aio.server(options=self._options)
        for service, methods in self._services.items():
            handler = grpc.method_handlers_generic_handler(service, dict(methods))
            server.add_generic_rpc_handlers((handler,))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        server.add_generic_rpc_handlers((_Unknown(),))
        port = int(server.add_insecure_port(target))
        before = asyncio.all_tasks()
        await server.start()
        # gRPC's own tasks are compiled. Where one of them fails, the server has ended, and
        # `wait_for_termination` alone does not tell it.
        begun = asyncio.all_tasks() - before
        self._tasks = {task for task in begun if not inspect.iscoroutine(task.get_coro())}
        self._tasks.add(asyncio.ensure_future(server.wait_for_termination()))
        self._servers.append(server)
        return port

    async def _follow(self, target: str) -> None:
        """Open the port again whenever gRPC's server has ended by itself."""
        while True:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
            if self._stopping:
                return
            _log.error("gRPC's server has ended because of a malformed request; it begins anew")
            finishing = asyncio.create_task(self._finish(self._servers[-1], self._tasks))
            self._finishing.add(finishing)
            finishing.add_done_callback(self._finishing.discard)
            if len(self._servers) > _MOST_FINISHING:
                await self._servers[0].stop(0)
            while not self._stopping:
                try:
                    await self._open(target)
                    break
                except RuntimeError:
                    await asyncio.sleep(_AGAIN_S)

    async def _finish(self, server: Any, tasks: set[asyncio.Future[Any]]) -> None:
        """Close the port of a server that has ended, and await the requests that it runs."""
        # The failure of its task has been told.
        await asyncio.gather(server.stop(_FINISH_S), *tasks, return_exceptions=True)
        self._servers.remove(server)

    async def stop(self, grace: float) -> None:
        """Accept no new requests, and cancel those that still run after `grace` seconds."""
        self._stopping = True
        await asyncio.gather(*(server.stop(grace) for server in self._servers))
        if self._following is not None:
            await self._following
        await asyncio.gather(*self._finishing)
        self._servers.clear()  # freed while their loop runs
