"""The gRPC port: gRPC's asyncio server in a thread with its own event loop.

A request only takes a thread of the pool when it has arrived completely. With gRPC's threaded
server, a client that opened streams and sent nothing on them blocked all other clients.

gRPC reads the names of unknown methods as UTF-8, and another name ended its server. Therefore the
known methods are registered, and unknown ones are refused before their names are read.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import threading
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import grpc
from grpc._cython import cygrpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.serving.server import ports
from imgpipe.serving.server.settings import Settings

MAX_STREAMS = 64
"""Simultaneous requests on one connection; clients hold back further ones until some have ended.

gRPC keeps what has arrived of each message in memory and tells nobody before the message is
complete, so that `--max_bytes_in_flight` does not count it. A connection can therefore fill
`MAX_STREAMS` × `--max_message_bytes`, which is 4 GiB with the defaults."""
_UNKNOWN_METHOD = (
    "This server does not answer this method. Ask tensorflow.serving.PredictionService/Predict: in "
    "models of imgpipe, the signature serving_default takes image files, and serving_examples "
    "takes tf.Examples."
)
HANDSHAKE_S = 5.0
"""Timeout of the TLS and HTTP/2 handshakes; the default of gRPC is two minutes."""
_SHARE = 0.25
"""Fraction of the open files of the process that connections may use."""
_LIMIT = "grpc.max_allowed_incoming_connections"
_MOST_SOCKETS = (1 << 31) - 1
"""Connections that channelz may list at once."""
_ANSWER_S = 10.0
"""Timeout for calls into the event loop, which answers at once."""
_CLEANING_S = 5.0
"""Time for the shutdown of the port after the grace period."""
_log = logging.getLogger(__name__)
HEALTH_SERVICES = frozenset(["", "PredictionService", "ModelService"])
"""Names in health requests: the whole server, and those that TensorFlow Serving uses."""
T = TypeVar("T")


class Health(health_pb2_grpc.HealthServicer):
    """The method Check of `grpc.health.v1`, which is answered in the event loop of the port.

    So it waits neither for a thread nor in the queue of inference requests.

    Args:
        is_up: Returns whether the server serves.
    """

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


class _Server(cygrpc.AioServer):
    """gRPC's server with registered methods, which refuses all others by itself."""

    async def _request_call(self) -> None:
        """Refuse requests of methods that are not registered, for which gRPC's main loop asks.

        The loop would decode their names (https://github.com/grpc/grpc, aio/server.pyx.pxi, 1.85).
        """
        refusals = set()
        while True:
            state = await super()._request_call()
            refusal = asyncio.create_task(_refuse_unknown(state))
            refusals.add(refusal)  # otherwise the garbage collector might end it
            refusal.add_done_callback(refusals.discard)


async def _refuse_unknown(state: Any) -> None:
    context = cygrpc._ServicerContext(state, None, None, asyncio.get_running_loop())
    # It raises gRPC's AbortError, or another error if the client has gone.
    with contextlib.suppress(Exception):
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, _UNKNOWN_METHOD)


class GrpcPort:
    """A gRPC server that is used from threads.

    Args:
        services: Handlers of methods, which are coroutines, by method by service.
        health: The health service.
        settings: The largest message, and the arguments of the channel, which override all others.

    Raises:
        ConfigError: An argument of the channel is malformed.
    """

    def __init__(
        self,
        services: Mapping[str, Mapping[str, grpc.RpcMethodHandler]],
        health: Health,
        settings: Settings,
    ) -> None:
        self._services = services
        self._health = health
        self._arguments = {
            "grpc.max_concurrent_streams": MAX_STREAMS,
            "grpc.server_handshake_timeout_ms": round(HANDSHAKE_S * 1000),
            _LIMIT: ports.connections(_SHARE),
            # Clients connect again by themselves.
            "grpc.max_connection_idle_ms": ports.IDLE_S * 1000,
            "grpc.enable_channelz": 1,  # counts the connections
            "grpc.max_send_message_length": -1,
            "grpc.so_reuseport": 0,  # otherwise two servers could share the port
            # Our client pings every 30 s, and those in Go every 10 s at most, also while they wait
            # for no answer. With gRPC's defaults of 5 minutes, and of 2 hours without a request,
            # the server would end their connections
            # (https://github.com/grpc/grpc/blob/master/doc/keepalive.md).
            "grpc.http2.min_ping_interval_without_data_ms": 5_000,
            "grpc.keepalive_permit_without_calls": 1,
            "grpc.max_receive_message_length": settings.max_message_bytes,
            # gRPC itself refuses compressed messages, of which 1 MB could become 1 GiB.
            "grpc.compression_enabled_algorithms_bitset": 1,
            "grpc.per_message_decompression": 0,
            **_channel_arguments(settings.grpc_channel_arguments),  # gRPC takes the first of two
        }
        self._server: Any = None
        self._others: set[int] = set()
        """Numbers of the servers in channelz that this process had before."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Event | None = None
        self._opened = threading.Event()
        self._thread: threading.Thread | None = None
        self.has_failed = False
        """Whether gRPC's server has ended by itself, after which the port is closed."""

    def open(self) -> None:
        """Start the thread; `listen` opens the ports.

        Raises:
            RuntimeError: The gRPC server does not start in time.
        """
        self._thread = threading.Thread(
            target=asyncio.run, args=(self._main(),), name="grpc", daemon=True
        )
        self._thread.start()
        if not self._opened.wait(_ANSWER_S):
            raise RuntimeError(f"The gRPC server did not start within {_ANSWER_S:g} s.")

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(_handle_loop_error)
        self._closing = asyncio.Event()
        arguments = list(self._arguments.items())
        self._others = _channelz_servers()
        self._server = grpc.aio.server(options=arguments)
        self._server._server = _Server(self._loop, None, (), None, arguments, None)
        for service, methods in self._services.items():
            self._server.add_registered_method_handlers(service, methods)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        ended = asyncio.create_task(self._server.wait_for_termination())
        ended.add_done_callback(self._note_end)
        self._opened.set()
        await self._closing.wait()
        self._server = None  # freed while its loop runs

    def _note_end(self, ended: asyncio.Task[bool]) -> None:
        error = None if ended.cancelled() else ended.exception()
        if error:
            self.has_failed = True
            _log.critical("the gRPC port has ended", exc_info=error)

    def _run(self, work: Coroutine[Any, Any, T], seconds: float = _ANSWER_S) -> T:
        if self._loop is None:
            raise RuntimeError("The gRPC port is not open.")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return sum(map(_connections, _channelz_servers() - self._others))

    @property
    def has_room(self) -> bool:
        """Whether gRPC accepts another connection; it closes further ones at once."""
        return self.connections < int(self._arguments[_LIMIT])

    def listen(self, target: str, credentials: Any = None) -> int:
        """Listen on an address and return the port.

        Args:
            target: `host:port`, or `unix:` and the path of a socket.
            credentials: Credentials of gRPC for TLS; None for plain connections.

        Raises:
            ResourceError: The server cannot listen on the address.
        """

        async def add() -> int:
            if credentials is None:
                return int(self._server.add_insecure_port(target))
            return int(self._server.add_secure_port(target, credentials))

        scheme, _, path = target.partition(":")
        if scheme == "unix":
            _free_socket(Path(path))
        try:
            return self._run(add())
        except RuntimeError as error:  # which does not tell the cause
            if scheme == "unix":
                raise ResourceError(
                    f"cannot listen on {target}. Expected: at most 107 bytes, in a folder that "
                    "exists."
                ) from error
            host, _, port = target.rpartition(":")
            ports.bound(host, int(port), "--port").close()
            raise ResourceError(f"cannot listen on {target}: {error}.") from error

    def start(self) -> None:
        """Start to answer requests."""
        self._run(self._server.start())

    def stop(self, grace: float) -> None:
        """Accept no new requests, and cancel those that still run after `grace` seconds."""
        if self._thread is None or self._loop is None or self._closing is None:
            return
        if self._thread.is_alive():
            self._run(self._server.stop(grace), grace + _CLEANING_S)
            self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(_CLEANING_S)
        self._thread = None


def _channelz_servers() -> set[int]:
    """Return the numbers of the gRPC servers of this process.

    gRPC counts connections only for its service channelz (gRFC A14). It numbers a server when it is
    first asked for.
    """
    page = json.loads(cygrpc.channelz_get_servers(0))
    return {int(server["ref"]["serverId"]) for server in page.get("server", [])}


def _connections(server: int) -> int:
    """Return the number of connections of a gRPC server."""
    page = json.loads(cygrpc.channelz_get_server_sockets(server, 0, _MOST_SOCKETS))
    return len(page.get("socketRef", []))


def _free_socket(path: Path) -> None:
    """Remove a Unix socket of another server, which is taken over as by TensorFlow Serving."""
    try:
        if path.exists() and not path.is_socket():
            raise ResourceError(f"cannot listen on unix:{path}: this is not a socket.")
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ResourceError(f"cannot listen on unix:{path}: {error.strerror}.") from error


def _channel_arguments(text: str) -> dict[str, int | str]:
    pairs: dict[str, int | str] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise ConfigError(
                f"--grpc_channel_arguments is name=value,name=value. Received: {part!r}."
            )
        # gRPC takes an argument as a number or as text, depending on its type in Python.
        number = re.fullmatch(r"-?[0-9]{1,10}", value) and abs(int(value)) < 1 << 31
        pairs[name] = int(value) if number else value
    return pairs


def _handle_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # All event loops of a process that use gRPC are woken for each event, and one of them gets it
    # (https://github.com/grpc/grpc/issues/25364).
    if not isinstance(context.get("exception"), BlockingIOError):
        loop.default_exception_handler(context)
