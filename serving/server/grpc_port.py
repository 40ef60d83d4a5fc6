"""The gRPC port: gRPC's asyncio server in a thread with its own event loop.

A request only takes a thread of the pool when it has arrived completely. With gRPC's threaded
server, a client that opened streams and sent nothing on them blocked all other clients.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import grpc
from grpc_health.v1 import health_pb2_grpc

from imgpipe.serving.server import open_files
from imgpipe.serving.server.errors import PortBusy
from imgpipe.serving.server.monitoring.health import Health
from imgpipe.serving.server.tls import Certificates

MAX_STREAMS = 64
"""Simultaneous requests on one connection; clients hold back further ones until some have ended.

gRPC keeps what has arrived of each message in memory and tells nobody before the message is
complete, so that ``--max_bytes_in_flight`` does not count it. A connection can therefore fill
``MAX_STREAMS`` × ``--max_message_bytes``, which is 4 GiB with the defaults."""
HANDSHAKE_S = 5.0
"""Timeout of the TLS and HTTP/2 handshakes; the default of gRPC is two minutes."""
_MAX_CONNECTIONS = 4096
_SHARE = 0.25
"""Fraction of the open files of the process that connections may use."""
_ANSWER_S = 10.0
"""Timeout for calls into the event loop, which answers at once."""
_PROBE_S = 1.0
"""Timeout to connect to a Unix socket that exists."""
_SOCKET_PATH_BYTES = 107
"""Longest path of a Unix socket on Linux."""
_CLEANING_S = 5.0
"""Time for the shutdown of the port after the grace period."""
T = TypeVar("T")
Arguments = Sequence[tuple[str, int | str]]


class GrpcPort:
    """A gRPC server that is used from threads.

    Args:
        handlers: Generic handlers, whose behaviours are coroutines.
        health: The health service.
        arguments: Channel arguments, which override those that are set here.
    """

    def __init__(self, handlers: Sequence[Any], health: Health, arguments: Arguments) -> None:
        self._handlers, self._health = handlers, health
        self._arguments = [
            ("grpc.max_concurrent_streams", MAX_STREAMS),
            ("grpc.server_handshake_timeout_ms", round(HANDSHAKE_S * 1000)),
            (
                "grpc.max_allowed_incoming_connections",
                open_files.connections(_SHARE, _MAX_CONNECTIONS),
            ),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # otherwise two servers could share the port
            # Clients ping every 30 s. With gRPC's default of 5 minutes the server would end their
            # connections (https://github.com/grpc/grpc/blob/master/doc/keepalive.md).
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            *arguments,
        ]
        self._server: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Event | None = None
        self._opened = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Start the thread; ``listen`` opens the ports.

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
        self._server = grpc.aio.server(handlers=self._handlers, options=self._arguments)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._opened.set()
        await self._closing.wait()
        self._server = None  # freed while its loop runs

    def _run(self, work: Coroutine[Any, Any, T], seconds: float = _ANSWER_S) -> T:
        if self._loop is None:
            raise RuntimeError("The gRPC port is not open.")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    def listen(self, target: str, certificates: Certificates | None = None) -> int:
        """Listen on an address and return the port.

        Args:
            target: ``host:port``, or ``unix:`` and the path of a socket.
            certificates: The certificates for TLS; None for plain connections.

        Raises:
            PortBusy: The server cannot listen on the address.
        """

        async def add() -> int:
            if certificates is None:
                return int(self._server.add_insecure_port(target))
            return int(self._server.add_secure_port(target, _credentials(certificates)))

        scheme, _, path = target.partition(":")
        if scheme == "unix" and (problem := _socket_problem(Path(path))):
            raise PortBusy(f"Cannot listen on {target}: {problem}")
        try:
            return self._run(add())
        except RuntimeError as error:
            raise _port_busy(target) from error

    def start(self) -> None:
        """Start to answer requests."""
        self._run(self._server.start())

    def stop(self, grace: float) -> None:
        """Accept no new requests, and cancel those that still run after ``grace`` seconds."""
        if self._thread is None or self._loop is None or self._closing is None:
            return
        if self._thread.is_alive():
            self._run(self._server.stop(grace), grace + _CLEANING_S)
            self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(_CLEANING_S)
        self._thread = None


def _port_busy(target: str) -> PortBusy:
    """Return the error for an address, with the cause, which gRPC does not tell."""
    if target.startswith("unix:"):
        return PortBusy(f"Cannot listen on {target}. Choose another path for the socket.")
    host, _, port = target.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    cause = OSError(errno.EADDRINUSE, "")
    try:
        socket.create_server((host.strip("[]"), int(port)), family=family).close()
    except OSError as error:
        cause = error
    return PortBusy.of(target, cause, "another --port")


def _socket_problem(path: Path) -> str:
    """Return why a server cannot listen on a Unix socket, which gRPC does not tell."""
    if len(os.fsencode(path)) > _SOCKET_PATH_BYTES:
        return f"the path is longer than {_SOCKET_PATH_BYTES} bytes. Choose a shorter one."
    try:
        if not path.parent.is_dir():
            return f"the folder {path.parent} does not exist. Create it, or choose another path."
        if not path.exists():
            return ""
        if not path.is_socket():
            return "this is a file, not a socket. Choose another path."
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_PROBE_S)
            probe.connect(str(path))
    except ConnectionRefusedError:  # left by a server that has ended; gRPC replaces it
        return ""
    except (TimeoutError, BlockingIOError):  # a server that is too busy to answer
        pass
    except OSError as error:
        return f"{error.strerror}. Check the permissions, or choose another path."
    return "another server uses the socket. Stop that server, or choose another path."


def _credentials(certificates: Certificates) -> Any:
    """Return credentials that are read again with each handshake."""

    def current() -> Any:
        tls = certificates.tls
        return grpc.ssl_server_certificate_configuration(
            [(tls.server_key.encode(), tls.server_cert.encode())], tls.custom_ca.encode() or None
        )

    verified = certificates.tls.client_verify
    return grpc.dynamic_ssl_server_credentials(current(), current, verified)


def _handle_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # All event loops of a process that use gRPC are woken for each event, and one of them gets it
    # (https://github.com/grpc/grpc/issues/25364).
    if not isinstance(context.get("exception"), BlockingIOError):
        loop.default_exception_handler(context)
