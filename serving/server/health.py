"""``grpc.health.v1``: whether every model has a version that answers.

The state is set from any thread; questions are answered in the event loop of the gRPC port, so that
they wait neither for a thread nor for a place in the queue of requests.
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
"""Names under which health is asked: the whole server, TensorFlow Serving's, the full ones."""
_State = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):
    """The health service.

    The asyncio servicer of grpcio-health-checking forgets the other watchers of a service once one
    of them leaves.
    """

    def __init__(self) -> None:
        self._up = self._ended = False
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def set(self, up: bool) -> None:
        """All services are SERVING, or are not; those who watch are told."""
        self._up = up
        self._wake()

    def end(self) -> None:
        """NOT_SERVING for good: those who watch are told, and their streams end.

        An open stream would hold up the end of the server.
        """
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the port is closed: nobody watches
                self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _state(self, service: str) -> int | None:
        if service not in HEALTH_SERVICES:
            return None
        return int(_State.SERVING if self._up and not self._ended else _State.NOT_SERVING)

    async def Check(self, request: Any, context: Any) -> Any:
        """The state of a service; NOT_FOUND for an unknown one."""
        state = self._state(request.service)
        if state is None:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return _State(status=state)

    async def Watch(self, request: Any, context: Any) -> None:
        """The state of a service, now and whenever it changes."""
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
