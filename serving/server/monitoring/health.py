"""The health service ``grpc.health.v1``: whether every model has an available version.

Any thread can set the state. Health requests are answered in the event loop of the gRPC port, so
that they wait neither for a thread nor in the queue of inference requests.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

HEALTH_SERVICES: Final = (
    "",
    "PredictionService",
    "ModelService",
    "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
)
"""Service names in health requests: the whole server, the short names that TensorFlow Serving uses,
and the full names."""
_State = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):
    """The health service.

    It replaces the asyncio servicer of grpcio-health-checking, which drops all watchers of a
    service when one of them leaves: its ``Watch`` then deletes the condition that they share.
    """

    def __init__(self) -> None:
        self._up = self._ended = False
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def set(self, up: bool) -> None:
        """Set all services to SERVING or NOT_SERVING, and notify the watchers."""
        self._up = up
        self._wake()

    def end(self) -> None:
        """Set all services to NOT_SERVING for good, and end the streams of the watchers.

        An open stream would delay the shutdown of the server.
        """
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and all watchers with it
                self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        # Each event wakes the watchers once. A watcher keeps the event from before it has read the
        # state, so that it misses no change.
        self._changed.set()
        self._changed = asyncio.Event()

    def _state(self, service: str) -> int | None:
        if service not in HEALTH_SERVICES:
            return None
        return int(_State.SERVING if self._up and not self._ended else _State.NOT_SERVING)

    async def Check(self, request: Any, context: Any) -> Any:
        """Return the state of a service, or NOT_FOUND for an unknown service."""
        state = self._state(request.service)
        if state is None:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return _State(status=state)

    async def Watch(self, request: Any, context: Any) -> None:
        """Stream the state of a service, first the current state and then every change."""
        # Before the first watcher there is nobody to notify, so the loop is not needed earlier.
        self._loop = asyncio.get_running_loop()
        last = None
        while True:
            changed = self._changed
            state = self._state(request.service)
            state = _State.SERVICE_UNKNOWN if state is None else state
            if state != last:
                await context.write(_State(status=state))
            last = state
            if self._ended:
                return
            await changed.wait()
