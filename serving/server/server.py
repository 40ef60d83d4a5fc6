"""`ModelServer`, which runs the model, services, health checks and ports in this process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent import futures
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from imgpipe.serving.server.calls import Calls
from imgpipe.serving.server.grpc_port import GrpcPort, Health
from imgpipe.serving.server.manager import ModelManager
from imgpipe.serving.server.metrics import Metrics
from imgpipe.serving.server.ports import is_loopback
from imgpipe.serving.server.request_log import RequestLog
from imgpipe.serving.server.runtime import Runtime
from imgpipe.serving.server.services import Services, handlers
from imgpipe.serving.server.settings import ServerSettings
from imgpipe.serving.server.writer import Writer

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from imgpipe.serving.server.rest.port import HttpPort

_log = logging.getLogger(__name__)
T = TypeVar("T")
_DRAIN_POLL_S = 0.01
"""Seconds between two checks whether a request still waits or runs."""
_ANSWERS_S = 1.0
"""Time in seconds to send answers after the last request has ended."""
_LOOP_S = 20.0
"""Time in seconds for what the event loop does at once."""
_AGAIN_S = 60.0
"""Seconds between two lines of the log about the same error of the event loop."""


class ModelServer:
    """Serves the versions below a base path, and replaces them when newer versions appear.

    Args:
        model_name: Name of the model in requests; empty for that of the settings.
        base_path: Folder of the numbered versions, which need not exist yet; empty for that of the
            settings.
        settings: All other settings; None for the defaults, with any free gRPC port and no REST
            port.
        loaded: Is called with the session of each version that is loaded.
        writer: Writes what stands beside answers; None for one of its own.

    Raises:
        ConfigError: The model or a setting cannot be used.
    """

    def __init__(
        self,
        model_name: str = "",
        base_path: str | Path = "",
        settings: ServerSettings | None = None,
        *,
        loaded: Callable[[Runtime], object] | None = None,
        writer: Writer | None = None,
    ) -> None:
        settings = settings or ServerSettings(port=0, rest_api_port=0)
        if model_name or base_path:
            settings = replace(settings, model_name=model_name, model_base_path=str(base_path))
        self._settings = settings
        # gRPC targets and URLs need brackets around an IPv6 address (RFC 3986, section 3.2.2).
        is_bare_ipv6 = ":" in settings.host and not settings.host.startswith("[")
        self.host = f"[{settings.host}]" if is_bare_ipv6 else settings.host
        self.port = settings.port
        self.rest_port = settings.rest_port

        def load(directory: Path) -> Runtime:
            runtime = Runtime(directory)
            if loaded is not None:
                loaded(runtime)
            return runtime

        self.model = ModelManager(load, settings)
        metrics = Metrics(self.model.name)
        self._owns_writer = writer is None
        self._writer = writer or Writer()
        self._log = RequestLog(settings, self._writer)
        self.calls = Calls(settings, (metrics,))
        services = Services(self.model, self._log)
        health = Health(self._is_ready)
        self._grpc = GrpcPort(handlers(services, self.calls, settings), health, settings)
        self._rest: HttpPort | None = None
        self._app = self._rest_app(metrics) if settings.rest_port else None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._answering: futures.Future[None] | None = None
        self._stopping = threading.Event()

    def _is_ready(self) -> bool:
        """Return whether the model answers, and the server goes on."""
        return self.model.available is not None and not self._stopping.is_set()

    @property
    def target(self) -> str:
        """`host:port`, for a client on this machine."""
        return f"{self.host}:{self.port}"

    def start(self) -> int:
        """Open the ports and begin to load the model; return the gRPC port.

        Raises:
            ResourceError: The server cannot listen on the address.
        """
        settings = self._settings
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_LoopErrors())
        self._thread = threading.Thread(
            target=_answer, args=(self._loop,), name="ports", daemon=True
        )
        self._thread.start()
        # The ports are opened first, so that a port that is taken is reported before the model is
        # loaded.
        try:
            if self._app is not None:
                from imgpipe.serving.server.rest.port import HttpPort

                port = max(settings.rest_port, 0)
                hosts = settings.allowed_hosts or ()
                self._rest = HttpPort(self.host, port, "--rest-port", hosts)
                self.rest_port = self._rest.port
            self.port = self._begin(self._grpc.start(self.target)).result(_LOOP_S)
        except BaseException:
            self.stop(0)
            raise
        self.model.start()
        if self._rest:
            self._answering = self._begin(self._rest.serve(self._app))
        _log.info("listening on %s", self.target)
        if self._rest:
            _log.info("REST interface on %s", self.rest_target)
        if self.shows_page:
            _log.info("open %s/ in a browser", self.rest_target)
        if not is_loopback(settings.host.strip("[]")):
            reached = self._rest_address(by_others=True) if self._rest else self.target
            _log.warning(
                "others in the network, such as a phone, can ask the model at %s%s; the connection "
                "is not encrypted",
                reached,
                "/" * self.shows_page,
            )
        return self.port

    def _begin(self, work: Coroutine[Any, Any, T]) -> futures.Future[T]:
        """Run a coroutine in the event loop."""
        if self._loop is None:
            raise RuntimeError("The server has not been started.")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _rest_app(self, metrics: Metrics) -> Starlette:
        from starlette.routing import Route

        from imgpipe.serving.server.rest.app import RestApi
        from imgpipe.serving.server.web import pages

        settings = self._settings
        api = RestApi(self.model, self.calls, self._log, metrics, self._is_ready, settings)
        if not settings.web_page:
            return api.app()
        service = pages.Knowledge(self.model, self.calls, api.bodies, settings.corrections)
        page = pages.routes(notice=settings.notice, examples=settings.examples)
        return api.app([*page, Route(pages.PATH, service.answer, methods=["GET", "POST"])])

    @property
    def rest_target(self) -> str:
        """`http://host:port` of the REST interface, for a client on this machine."""
        return self._rest_address()

    def _rest_address(self, by_others: bool = False) -> str:
        from imgpipe.serving.server.rest.port import host_to_open

        return f"http://{host_to_open(self.host, by_others)}:{self.rest_port}"

    @property
    def shows_page(self) -> bool:
        """Whether `/` of the REST interface is the page to try the model."""
        return self._settings.shows_page

    def wait_until_available(self, timeout: float = 60.0) -> int:
        """Wait until the model can answer; see `ModelManager.wait_until_available`."""
        return self.model.wait_until_available(timeout)

    def stop(self, grace: float = 30.0) -> bool:
        """Refuse new requests, and let running ones finish in `grace` s; return whether all have.

        Otherwise the remaining requests are cancelled for their clients, and their version is
        unloaded once TensorFlow has finished them.
        """
        # tensorflow_model_server does none of this: it has no handler for SIGTERM
        # (https://github.com/tensorflow/serving/issues/1853).
        if self._stopping.is_set():
            return not self.calls.running
        self._stopping.set()
        # The port stays open: gRPC would cancel requests that are arriving, which clients would
        # not retry.
        self.calls.drain()
        end = time.monotonic() + grace
        while self.calls.running and time.monotonic() < end:
            time.sleep(_DRAIN_POLL_S)
        finished = not self.calls.running
        # Nothing runs unless the grace period is over; streams without a request may be open.
        left = max(end - time.monotonic(), 0.0)
        if self._loop is not None:
            self._begin(self._grpc.stop(min(left, _ANSWERS_S))).result(_LOOP_S)
        if self._rest is not None:
            finished = self._rest.stop(left) and finished
        if self._answering is not None:
            with contextlib.suppress(futures.TimeoutError):
                self._answering.result(_LOOP_S)
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_LOOP_S)
        self.calls.shutdown()
        self.model.stop()
        self._writer.put(self._log.close)
        if self._owns_writer:
            self._writer.close(_ANSWERS_S)
        return finished

    def __enter__(self) -> ModelServer:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def _answer(loop: asyncio.AbstractEventLoop) -> None:
    """Run the event loop of both ports until it is stopped."""
    loop.run_forever()
    loop.close()


class _LoopErrors:
    """Logs errors of the event loop, such as that there are no more files, in one line a minute."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        # All event loops of a process that use gRPC are woken for each event, and one of them gets
        # it (https://github.com/grpc/grpc/issues/25364).
        if isinstance(error, BlockingIOError):
            return
        message = str(context.get("message"))
        now = time.monotonic()
        if now - self._told.get(message, -_AGAIN_S) >= _AGAIN_S:
            self._told[message] = now
            _log.error("%s: %s", message, error)
