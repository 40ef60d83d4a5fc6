"""``ModelServer``, which runs the models, services, health checks and ports in this process."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imgpipe.serving.server import model_list
from imgpipe.serving.server.core import Core, CoreOptions
from imgpipe.serving.server.errors import BadArgument, ServerError
from imgpipe.serving.server.grpc_port import GrpcPort
from imgpipe.serving.server.monitoring import profiler
from imgpipe.serving.server.monitoring.access_log import AccessLog
from imgpipe.serving.server.monitoring.health import Health
from imgpipe.serving.server.monitoring.request_log import RequestLogOptions, RequestLogs
from imgpipe.serving.server.requests import limits
from imgpipe.serving.server.requests.calls import Calls
from imgpipe.serving.server.requests.pool import SheddingPool
from imgpipe.serving.server.rest.options import RestOptions
from imgpipe.serving.server.runtimes.runtime import available_cores
from imgpipe.serving.server.services import ServiceOptions, handlers
from imgpipe.serving.server.status import StatusError
from imgpipe.serving.server.textproto import Monitoring, SslConfig
from imgpipe.serving.server.tls import Certificates
from imgpipe.serving.server.versions import config as configs
from imgpipe.serving.server.versions.config import ModelConfig
from imgpipe.serving.server.versions.loader import LoaderOptions, make_loader
from imgpipe.serving.server.versions.remote_versions import base_path_of
from imgpipe.serving.server.versions.servable import Loader
from imgpipe.serving.server.web import page_address

if TYPE_CHECKING:
    from starlette.routing import Route

    from imgpipe.serving.server.rest.app import Page
    from imgpipe.serving.server.rest.listener import Listener

_log = logging.getLogger(__name__)
_WORKERS_PER_CORE = 16
JSON = "application/json"
_DRAIN_POLL_S = 0.01
"""Seconds between two checks whether a request still waits or runs."""
_ANSWERS_S = 1.0
"""Time in seconds to send answers after the last request has ended."""


@dataclass(frozen=True)
class ServerOptions:
    """Options of a server, except for the models that it serves and the address it listens on."""

    core: CoreOptions = field(default_factory=CoreOptions)
    loader: LoaderOptions = field(default_factory=LoaderOptions)
    services: ServiceOptions = field(default_factory=ServiceOptions)
    request_log: RequestLogOptions = field(default_factory=RequestLogOptions)
    max_workers: int = 0
    """Number of simultaneous requests; 0 for 16 per CPU core (TensorFlow releases the GIL while it
    runs)."""
    max_waiting: int = limits.DEFAULT_MAX_WAITING
    """Largest number of requests in the queue; further requests are refused. 0 for no limit."""
    max_bytes_in_flight: int = limits.DEFAULT_MAX_BYTES_IN_FLIGHT
    """Largest size of all gRPC requests together that wait or run; further requests are refused.
    0 for no limit. Requests that are still arriving are not counted; see ``max_message_bytes``."""
    max_message_bytes: int = limits.DEFAULT_MAX_MESSAGE_BYTES
    """Largest decompressed size of a gRPC request; -1 for gRPC's own limit of 2 GiB. Times
    ``grpc_port.MAX_STREAMS``, it is the most memory that arriving requests of a connection take."""
    tls: SslConfig | None = None
    tls_file: Path | None = None
    """The file of ``tls``, which is read again for new connections when it changes."""
    socket_path: str = ""
    """Path of a Unix socket to listen on in addition; empty for none."""
    channel_arguments: tuple[tuple[str, int | str], ...] = ()
    access_log: str = ""
    """File for JSON lines; ``-`` for standard error, empty for no access log."""
    profiler_port: int = 0
    """Port of TensorFlow's profiler service, on all network interfaces; 0 for none."""
    config_file: Path | None = None
    """File with the configuration of the models, which is read again every
    ``config_poll_seconds``."""
    config_poll_seconds: float = 0.0
    monitoring: Monitoring | None = None
    """Page of the REST interface that shows metrics; None for no page."""
    rest: RestOptions | None = None
    """Options of the REST interface; None for no REST interface."""


class ModelServer:
    """Serves the versions below base paths, and replaces them when newer versions appear.

    Args:
        model_name: Name of the model in requests.
        base_path: Folder of the numbered versions, or a remote folder such as
            ``gs://bucket/models/flowers``. It need not exist yet.
        host: Address to listen on. By default only this machine can reach the server.
        port: gRPC port; 0 for any free port, which ``start`` returns, and -1 for none, if the
            server listens on a Unix socket only.
        poll_seconds: Seconds between two reads of the base path; 0 to read it once.
        models: Several models, instead of ``model_name`` and ``base_path``.
        options: All other options.

    Raises:
        BadArgument: An argument or an option is wrong.
    """

    def __init__(
        self,
        model_name: str = "",
        base_path: str | Path = "",
        host: str = "127.0.0.1",
        port: int = 0,
        poll_seconds: float | None = None,
        *,
        models: Sequence[ModelConfig] = (),
        options: ServerOptions | None = None,
    ) -> None:
        self._options = options = options or ServerOptions()
        core = options.core
        if poll_seconds is not None:
            core = replace(core, poll_seconds=poll_seconds)
        self._wanted = list(models) or [_single(model_name, str(base_path))]
        _check(port, core.poll_seconds)
        # gRPC targets and URLs need brackets around an IPv6 address (RFC 3986, section 3.2.2).
        is_bare_ipv6 = ":" in host and not host.startswith("[")
        self.host, self.port = f"[{host}]" if is_bare_ipv6 else host, port
        self.calls = Calls()
        self._access_log = AccessLog(options.access_log) if options.access_log else None
        if self._access_log:
            self.calls.observers.append(self._access_log)
        self._health = Health()
        self._up: bool | None = None
        self._health_lock = threading.Lock()
        self._pages: list[Page] = []
        self._services = options.services
        monitoring = options.monitoring
        page = monitoring.path if monitoring and monitoring.prometheus and options.rest else None
        # Metrics are only counted where something can read them.
        if page is not None or options.services.allow_reload:
            loader, core = self._count(core, page)
        else:
            loader = make_loader(options.loader)
        self.core = Core(loader, core, self._set_health)
        self._rest: Listener | None = None
        self._certificates: Certificates | None = None
        self.rest_port = options.rest.port if options.rest else -1
        self.request_logs = RequestLogs(options.request_log)
        self._stopping = threading.Event()
        self._set_health()
        self._grpc = self._make_grpc()
        self._web = self._web_routes(options.rest) if options.rest and options.rest.web else []

    def _count(self, core: CoreOptions, page: str | None) -> tuple[Loader, CoreOptions]:
        """Return a loader and options that count events, for reload requests and for a page.

        ``page`` is the path of the metrics page; None for no page.
        """
        from imgpipe.serving.server.monitoring.metrics import Metrics

        options = self._options
        metrics = Metrics(lambda name: name in self.core.models)
        self.calls.observers.append(metrics)
        self._services = replace(options.services, count=metrics.count)
        if page is not None:
            from imgpipe.serving.server.rest.app import Page

            self._pages.append(Page(page, metrics.page))
        loader = metrics.counted(make_loader(options.loader, metrics.batch))
        return loader, replace(core, load=replace(core.load, on_warm_up=metrics.warmed_up))

    def _make_grpc(self) -> GrpcPort:
        options = self._options
        workers = options.max_workers or _WORKERS_PER_CORE * available_cores()
        self._pool = SheddingPool(workers, options.max_waiting, options.max_bytes_in_flight)
        services = handlers(self.core, self.calls, self.request_logs, self._services, self._pool)
        arguments = (
            ("grpc.max_receive_message_length", options.max_message_bytes),
            *options.channel_arguments,
        )
        return GrpcPort([*services, model_list.handler(self.core)], self._health, arguments)

    @property
    def target(self) -> str:
        """``host:port``, for a client on this machine."""
        return f"{self.host}:{self.port}"

    def start(self) -> int:
        """Open the ports and begin to load the models.

        Returns:
            The gRPC port.

        Raises:
            PortBusy: The server cannot listen on the address.
            StartRefused: The configuration of the models is wrong.
            BadArgument: The TLS files cannot be used.
        """
        # The ports are opened first, so that a port that is taken is reported before any model is
        # loaded.
        self._grpc.open()
        try:
            self._listen()
            self.core.reload(self._wanted)
        except (ServerError, StatusError) as error:
            self._grpc.stop(0)
            if self._rest:
                self._rest.stop(0)
            if isinstance(error, ServerError):
                raise
            raise StartRefused(f"Failed to start server. Error: {error.message}") from error
        if self._options.rest:
            self._start_rest(self._options.rest)
        self._grpc.start()
        if self._options.config_file and self._options.config_poll_seconds > 0:
            threading.Thread(target=self._follow_config, name="config-file", daemon=True).start()
        if self._certificates and self._options.tls_file:
            threading.Thread(
                target=self._certificates.follow,
                args=(self._stopping,),
                name="certificates",
                daemon=True,
            ).start()
        _log.info("listening on %s", self.target)
        if self._rest:
            _log.info("REST interface on %s", self._rest_at(self.host))
        if self.shows_page:
            _log.info("open %s/ in a browser to try the models", self.rest_target)
        return self.port

    def _listen(self) -> None:
        options = self._options
        if options.tls:
            self._certificates = Certificates(options.tls, options.tls_file)
        if self.port >= 0:
            self.port = self._grpc.listen(self.target, self._certificates)
        if options.socket_path:
            self._grpc.listen(f"unix:{options.socket_path}")
        if options.rest:
            from imgpipe.serving.server.rest.listener import Listener

            self._rest = Listener(self.host, options.rest.port, self._certificates)
            self.rest_port = self._rest.port
        if options.profiler_port:
            profiler.start(options.profiler_port)

    def _start_rest(self, options: RestOptions) -> None:
        from imgpipe.serving.server.rest.api import Api
        from imgpipe.serving.server.rest.app import Endpoint, Page, make_app

        core = self.core
        api = Api(core, self.calls, self.request_logs, options, self._pool.workers)
        endpoint = Endpoint(api, self._pool, options)
        pages = [
            *self._pages,
            Page("/v1/server/models", lambda: json.dumps(model_list.models(core)), JSON),
            Page("/v1/server/config", lambda: json.dumps(model_list.config(core)), JSON),
        ]
        if self._rest:
            self._rest.start(make_app(endpoint, options, core.ready, pages, self._web), endpoint)

    def _web_routes(self, options: RestOptions) -> list[Route]:
        from imgpipe.serving.server.web import collection, corrections, pages

        folder = options.collect
        kept = collection.Collection(folder, self.core) if folder else None
        return [*pages.routes(), *corrections.routes(kept, self._pool, options.timeout)]

    @property
    def rest_target(self) -> str:
        """``http://host:port`` of the REST interface, for a client on this machine."""
        return self._rest_at(page_address.host_to_open(self.host))

    def _rest_at(self, host: str) -> str:
        return f"http{'s' * bool(self._options.tls)}://{host}:{self.rest_port}"

    @property
    def shows_page(self) -> bool:
        """Whether ``/`` of the REST interface is the page to try the models."""
        return bool(self._rest and self._options.rest and self._options.rest.web)

    def _follow_config(self) -> None:
        """Read the config file at intervals; an invalid file changes nothing."""
        file = self._options.config_file
        pause = min(self._options.config_poll_seconds, threading.TIMEOUT_MAX)
        # An equal configuration is not applied again, so that a change by HandleReloadConfigRequest
        # lasts until the file changes.
        before = self._wanted
        while file and not self._stopping.wait(pause):
            try:
                wanted = configs.read_models(file)
                if wanted != before:
                    _log.info("%s has changed: %s", file, ", ".join(m.name for m in wanted))
                    self.core.reload(wanted)
                before = wanted
            except (ServerError, StatusError) as error:
                _log.error("the config file was not applied, and the served models stay: %s", error)

    def wait_until_available(self, timeout: float = 60.0) -> int:
        """Wait until all models can answer.

        Args:
            timeout: Seconds to wait for each model.

        Returns:
            The newest available version of the first model.

        Raises:
            StatusError: A model failed to load, for the reason in the message, or the time is over.
        """
        versions = [m.wait_until_available(timeout) for m in self.core.models.values()]
        return versions[0]

    def _set_health(self) -> None:
        # One thread at a time, or that of one model could overwrite the newer state of another.
        with self._health_lock:
            up = self.core.ready()
            if up is self._up:
                return  # watchers are only notified of changes
            self._up = up
            self._health.set(up)

    def stop(self, grace: float = 30.0) -> bool:
        """Stop the server: refuse new requests and let running requests finish within ``grace`` s.

        Returns:
            Whether all requests have finished. Otherwise the remaining requests are cancelled for
            their clients, and their versions are unloaded once TensorFlow has finished them.
        """
        # tensorflow_model_server does none of this: it has no handler for SIGTERM
        # (https://github.com/tensorflow/serving/issues/1853).
        self._stopping.set()
        self._health.end()
        # The port stays open: gRPC would cancel requests that are arriving, which clients would
        # not retry.
        if self._rest:
            self._rest.drain()
        self._pool.drain()
        end = time.monotonic() + grace
        while not self._pool.idle() and time.monotonic() < end:
            time.sleep(_DRAIN_POLL_S)
        # Nothing runs unless the grace period is over; streams without a request may be open.
        self._grpc.stop(min(max(end - time.monotonic(), 0.0), _ANSWERS_S))
        if self._rest:
            self._rest.stop(max(end - time.monotonic(), 0.0))
        finished = not self.core.busy()
        self._pool.shutdown(wait=False)
        self.core.stop()
        self.request_logs.close()
        if self._access_log:
            self.calls.observers.remove(self._access_log)
            self._access_log.close()
        return finished

    def __enter__(self) -> ModelServer:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def _single(name: str, base_path: str) -> ModelConfig:
    """Return the configuration of the only model."""
    if not name:
        raise BadArgument("A model needs a name. Received an empty one.")
    path = base_path_of(base_path)
    return ModelConfig(name, path.absolute() if isinstance(path, Path) else path)


def _check(port: int, poll_seconds: float) -> None:
    if not -1 <= port <= 65535:
        raise BadArgument(f"A port is a number from 0 to 65535. Received: {port}.")
    if poll_seconds < 0:
        raise BadArgument(f"The poll wait is 0 s (once) or more. Received: {poll_seconds}.")


class StartRefused(BadArgument):
    """The models cannot be served as configured."""
