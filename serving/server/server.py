"""``ModelServer``: models, services, health and a port, in the caller's process."""

from __future__ import annotations

import logging
from concurrent import futures
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from serving.server.errors import BadArgument, PortBusy
from serving.server.manager import ModelConfig, ModelManager
from serving.server.runtime import SessionRuntime, available_cores
from serving.server.services import handlers

_log = logging.getLogger(__name__)
HEALTH_SERVICES = (
    "",
    "PredictionService",
    "ModelService",
    "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
)
"""Names under which health is asked: the whole server, TensorFlow Serving's, the full ones."""
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),  # else a second server would quietly share the port
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),  # clients ping every 30 s
)
_STOP_LOADING_S = 5.0
"""How long stop() waits for a load that is under way; it ends by itself afterwards."""


class ModelServer:
    """Serves the newest complete version under a base path, and swaps when a newer one appears.

    Args:
        model_name: the name requests use.
        base_path: directory of ``<version>/`` directories; may appear later.
        host: address to listen on; other machines reach it only when this says so.
        port: 0 for any free one, see the result of ``start``.
        poll_seconds: time between looks at the base path; 0 looks once.
        warm_up: replay the model's warm-up requests before it is available.
        intra_op, inter_op: threads of TensorFlow, 0 for the cores of this process.
        max_workers: requests at once; 0 for 16 a core (TensorFlow releases Python's lock while
            it runs, and a request that waits costs nothing).
    """

    def __init__(
        self,
        model_name: str,
        base_path: str | Path,
        host: str = "127.0.0.1",
        port: int = 0,
        poll_seconds: float = 1.0,
        *,
        warm_up: bool = True,
        intra_op: int = 0,
        inter_op: int = 0,
        max_workers: int = 0,
    ) -> None:
        if not model_name:
            raise BadArgument("A model needs a name. Received an empty one.")
        if not 0 <= port <= 65535:
            raise BadArgument(f"A port is a number from 0 to 65535. Received: {port}.")
        if poll_seconds < 0:
            raise BadArgument(f"The poll wait is 0 s (once) or more. Received: {poll_seconds}.")
        self.host, self.port = host, port
        config = ModelConfig(model_name, Path(base_path))

        def load(directory: Path) -> SessionRuntime:
            return SessionRuntime(directory, intra_op, inter_op)

        self._models = {
            model_name: ModelManager(
                config, load, poll_seconds=poll_seconds, warm=warm_up, on_change=self._set_health
            )
        }
        self._health = health.HealthServicer()
        self._draining = False
        self._set_health()
        self._grpc = self._make_grpc(max_workers or 16 * available_cores())

    def _make_grpc(self, max_workers: int) -> Any:
        pool = futures.ThreadPoolExecutor(max_workers, thread_name_prefix="request")
        server = grpc.server(pool, options=_OPTIONS)
        server.add_generic_rpc_handlers(handlers(self._models))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        return server

    @property
    def target(self) -> str:
        """``host:port``, for a client on this machine."""
        return f"{self.host}:{self.port}"

    def start(self) -> int:
        """Listen and begin to load; returns the port.

        Raises:
            PortBusy: the address cannot be listened on.
        """
        try:
            port = self._grpc.add_insecure_port(self.target)
        except RuntimeError as error:
            raise PortBusy(
                f"Cannot listen on {self.target}: the port is taken, or the address is not one of "
                "this machine. Stop the other server, or choose another port."
            ) from error
        self.port = port
        self._grpc.start()
        for model in self._models.values():
            model.start()
        _log.info("listening on %s", self.target)
        return port

    def wait_until_available(self, timeout: float = 60.0) -> int:
        """Wait until the model answers; returns the version.

        Raises:
            StatusError: it failed to load (the cause is in the message), or the time is over.
        """
        (model,) = self._models.values()
        return model.wait_until_available(timeout)

    def _set_health(self) -> None:
        if self._draining:
            return
        up = all(model.available() for model in self._models.values())
        status = health_pb2.HealthCheckResponse
        for name in HEALTH_SERVICES:
            self._health.set(name, status.SERVING if up else status.NOT_SERVING)

    def stop(self, grace: float = 30.0) -> bool:
        """Turn unhealthy, refuse new requests, let those that run finish within ``grace`` s.

        Returns False when some did not: their clients have been told, the threads run on until
        TensorFlow is done with them, and their version is unloaded then.
        """
        self._draining = True
        self._health.enter_graceful_shutdown()
        self._grpc.stop(grace).wait()  # comes back after the grace, whatever still runs
        finished = not any(model.busy() for model in self._models.values())
        for model in self._models.values():
            model.stop(_STOP_LOADING_S)
        return finished

    def __enter__(self) -> ModelServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
