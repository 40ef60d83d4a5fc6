"""`ModelServer`, which runs the model, services, health checks and ports in this process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from imgpipe.models.errors import ImgpipeError
from imgpipe.models.machine.system import processors
from imgpipe.serving.server.calls import Calls, SheddingPool
from imgpipe.serving.server.grpc_port import GrpcPort, Health
from imgpipe.serving.server.manager import Core
from imgpipe.serving.server.metrics import Metrics
from imgpipe.serving.server.ports import grpc_credentials, is_loopback, server_context
from imgpipe.serving.server.request_log import RequestLog
from imgpipe.serving.server.runtime import Runtime
from imgpipe.serving.server.services import Services, handlers
from imgpipe.serving.server.settings import Settings, of_settings

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from imgpipe.serving.server.rest.port import HttpPort

_log = logging.getLogger(__name__)
_WORKERS_PER_CORE = 16
_DRAIN_POLL_S = 0.01
"""Seconds between two checks whether a request still waits or runs."""
_ANSWERS_S = 1.0
"""Time in seconds to send answers after the last request has ended."""


class ModelServer:
    """Serves the versions below a base path, and replaces them when newer versions appear.

    Args:
        model_name: Name of the model in requests; empty for that of the settings.
        base_path: Folder of the numbered versions, which need not exist yet; empty for that of the
            settings.
        settings: All other settings; None for the defaults, with any free gRPC port, no REST port
            and one attempt to load a version.
        loaded: Is called with the session of each version that is loaded.

    Raises:
        ConfigError: The model or a setting cannot be used.
    """

    def __init__(
        self,
        model_name: str = "",
        base_path: str | Path = "",
        settings: Settings | None = None,
        *,
        loaded: Callable[[Runtime], object] | None = None,
    ) -> None:
        settings = settings or Settings(port=0, rest_api_port=0, max_load_retries=0)
        if model_name or base_path:
            settings = replace(settings, model_name=model_name, model_base_path=str(base_path))
        self._settings = settings
        self._config = of_settings(settings)
        # gRPC targets and URLs need brackets around an IPv6 address (RFC 3986, section 3.2.2).
        is_bare_ipv6 = ":" in settings.host and not settings.host.startswith("[")
        self.host = f"[{settings.host}]" if is_bare_ipv6 else settings.host
        self.port = settings.port
        self.rest_port = settings.rest_port
        self._tls = server_context(settings)
        metrics = Metrics(lambda name: name == self.core.model.config.name)
        workers = settings.grpc_max_threads or _WORKERS_PER_CORE * processors()
        pool = SheddingPool(workers, settings.max_queued_requests, settings.max_bytes_in_flight)
        self.calls = Calls(pool, [metrics])

        def load(directory: Path) -> Runtime:
            runtime = Runtime(directory)
            if loaded is not None:
                loaded(runtime)
            return runtime

        self.core = Core(self._config, load, settings)
        self._log = RequestLog(settings)
        self._stopping = threading.Event()
        services = Services(self.core, self._log, settings)
        self._grpc = GrpcPort(handlers(services, self.calls), Health(self._is_ready), settings)
        self._rest: HttpPort | None = None
        self._app = self._rest_app(metrics) if settings.rest_port else None

    def _is_ready(self) -> bool:
        """Return whether the model answers, and new clients reach it."""
        answers = bool(self.core.model.available())
        return answers and not self._stopping.is_set() and self._grpc.has_room

    @property
    def target(self) -> str:
        """`host:port`, for a client on this machine."""
        return f"{self.host}:{self.port}"

    @property
    def has_failed(self) -> bool:
        """Whether the gRPC port has ended by itself, so that the process should end too."""
        return self._grpc.has_failed

    def start(self) -> int:
        """Open the ports and begin to load the model.

        Returns:
            The gRPC port; 0 if the server listens on a Unix socket only.

        Raises:
            ResourceError: The server cannot listen on the address.
        """
        # The ports are opened first, so that a port that is taken is reported before the model is
        # loaded.
        settings = self._settings
        self._grpc.open()
        try:
            self._listen()
        except ImgpipeError:
            self._grpc.stop(0)
            if self._rest:
                self._rest.stop(0)
            raise
        self.core.model.start()
        if self._rest:
            self._rest.start(self._app)
        self._grpc.start()
        if settings.model_config_file and settings.model_config_file_poll_wait_seconds > 0:
            threading.Thread(target=self._follow_config, name="config-file", daemon=True).start()
        _log.info("listening on %s", self.target)
        if self._rest:
            _log.info("REST interface on %s", self.rest_target)
        if self.shows_page:
            _log.info("open %s/ in a browser", self.rest_target)
        if not is_loopback(settings.host.strip("[]")):
            _log.warning(
                "others can reach %s: whoever does can ask the model%s; the connection is %s",
                settings.host,
                " and open the page" * self.shows_page,
                "encrypted" if self._tls else "not encrypted",
            )
        return self.port

    def _listen(self) -> None:
        settings = self._settings
        if settings.port or not settings.grpc_socket_path:
            credentials = grpc_credentials(settings) if self._tls else None
            self.port = self._grpc.listen(self.target, credentials)
        if settings.grpc_socket_path:
            self._grpc.listen(f"unix:{settings.grpc_socket_path}")
        if settings.rest_port:
            from imgpipe.serving.server.rest.port import HttpPort

            port = max(settings.rest_port, 0)
            hosts = settings.allowed_hosts or ()
            self._rest = HttpPort(self.host, port, "--rest-port", self._tls, hosts)
            self.rest_port = self._rest.port

    def _rest_app(self, metrics: Metrics) -> Starlette:
        from starlette.routing import Route

        from imgpipe.serving.server.rest.app import RestApi
        from imgpipe.serving.server.web import pages

        settings = self._settings
        api = RestApi(self.core, self.calls, self._log, metrics, self._is_ready, settings)
        if not settings.web_page:
            return api.app()
        read = settings.read_distribution
        service = pages.Knowledge(read, self.core, self.calls, api.bodies)
        page = pages.routes(notice=settings.notice, examples=settings.examples)
        return api.app([*page, Route(pages.PATH, service.answer, methods=["GET", "POST"])])

    @property
    def rest_target(self) -> str:
        """`http://host:port` of the REST interface, for a client on this machine."""
        from imgpipe.serving.server.rest.port import host_to_open

        return f"http{'s' * bool(self._tls)}://{host_to_open(self.host)}:{self.rest_port}"

    @property
    def shows_page(self) -> bool:
        """Whether `/` of the REST interface is the page to try the model."""
        return self._settings.shows_page

    def _follow_config(self) -> None:
        """Read the config file at intervals; an invalid file changes nothing."""
        settings = self._settings
        pause = min(settings.model_config_file_poll_wait_seconds, threading.TIMEOUT_MAX)
        # An equal configuration is not applied again, so that a change by HandleReloadConfigRequest
        # lasts until the file changes.
        before = self._config
        while not self._stopping.wait(pause):
            try:
                wanted = of_settings(settings)
            except ImgpipeError as error:
                _log.error("the config file was not applied, and the served model stays: %s", error)
                continue
            if wanted != before:
                _log.info("the config file has changed: %s", wanted.name)
                self.core.reload(wanted)
            before = wanted

    def wait_until_available(self, timeout: float = 60.0) -> int:
        """Wait until the model can answer.

        Args:
            timeout: Seconds to wait.

        Returns:
            The newest available version.

        Raises:
            StatusError: The model failed to load, for the reason in the message, or the time is
                over.
        """
        return self.core.model.wait_until_available(timeout)

    def stop(self, grace: float = 30.0) -> bool:
        """Stop the server: refuse new requests and let running requests finish within `grace` s.

        Returns:
            Whether all requests have finished. Otherwise the remaining requests are cancelled for
            their clients, and their versions are unloaded once TensorFlow has finished them.
        """
        # tensorflow_model_server does none of this: it has no handler for SIGTERM
        # (https://github.com/tensorflow/serving/issues/1853).
        self._stopping.set()
        # The port stays open: gRPC would cancel requests that are arriving, which clients would
        # not retry.
        self.calls.pool.drain()
        end = time.monotonic() + grace
        while not self.calls.pool.idle() and time.monotonic() < end:
            time.sleep(_DRAIN_POLL_S)
        # Nothing runs unless the grace period is over; streams without a request may be open.
        self._grpc.stop(min(max(end - time.monotonic(), 0.0), _ANSWERS_S))
        answered = self._rest is None or self._rest.stop(max(end - time.monotonic(), 0.0))
        finished = answered and self.calls.pool.idle()
        self.calls.pool.shutdown(wait=False)
        self.core.stop()
        self._log.close()
        return finished

    def __enter__(self) -> ModelServer:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
