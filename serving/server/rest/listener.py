"""The REST port: uvicorn in its own thread, with TLS, connection limits and graceful shutdown."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from typing import Any

import uvicorn

from imgpipe.serving.server import open_files
from imgpipe.serving.server.errors import PortBusy
from imgpipe.serving.server.rest.acceptor import BoundedServer
from imgpipe.serving.server.rest.app import Endpoint
from imgpipe.serving.server.rest.protocol import IDLE_S, HttpProtocol

MAX_CONNECTIONS = 4096
_SHARE = 0.5
"""Fraction of the open files of the process that connections may use. Those of gRPC may use another
quarter, so that a quarter is left for the files of models and logs."""
_START_S = 20.0
_POLL_S = 0.01


class Listener:
    """The REST port of a server."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        """Bind the port; requests are answered only after ``start``.

        Raises:
            PortBusy: The address cannot be listened on.
        """
        self._tls = tls
        self._socket = _bound(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self, app: Any, api: Endpoint) -> None:
        """Start to answer requests."""
        self._api = api
        most = open_files.connections(_SHARE, MAX_CONNECTIONS)
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http=HttpProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,  # otherwise uvicorn would configure the logging of the process
            log_level="error",  # errors of clients are not logged
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=most,
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=1,  # ``stop`` has waited for the requests before
        )
        # Idle connections are closed before the limit at which uvicorn answers 503.
        self._server = BoundedServer(config, self._tls, most - most // 8)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="rest", daemon=True
        )
        self._thread.start()
        end = time.monotonic() + _START_S
        while not self._server.started and self._thread.is_alive() and time.monotonic() < end:
            time.sleep(_POLL_S)

    def drain(self) -> None:
        """Refuse new requests; running requests continue."""
        if self._server is not None:
            self._api.draining = True

    def stop(self, grace: float) -> bool:
        """Wait at most ``grace`` seconds for running requests, then stop.

        Returns:
            Whether all requests have finished.
        """
        if self._server is None or self._thread is None:
            self._socket.close()
            return True
        self.drain()
        end = time.monotonic() + grace
        while self._api.running and time.monotonic() < end:
            time.sleep(_POLL_S)
        finished = not self._api.running
        # Without it, uvicorn would wait for requests that are cut off here.
        self._server.force_exit = not finished
        self._server.should_exit = True
        self._thread.join(5)
        return finished


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio only turns off Nagle's algorithm (40 ms between head and body) where the protocol
    # is given.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host.strip("[]"), port))
        bound.listen(2048)
    except OSError as error:
        bound.close()
        another = (
            "another port for REST: --rest-port of imgpipe serve, --rest_api_port of "
            "imgpipe-model-server"
        )
        raise PortBusy.of(f"{host}:{port} (REST)", error, another) from error
    return bound
