"""``ModelServer``: models, services, health and ports, in the caller's process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent import futures
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from imgpipe.serving.server import config as configs
from imgpipe.serving.server.access_log import AccessLog
from imgpipe.serving.server.calls import Calls
from imgpipe.serving.server.config import ModelConfig
from imgpipe.serving.server.core import Core, CoreOptions
from imgpipe.serving.server.errors import BadArgument, PortBusy, ServerError
from imgpipe.serving.server.limits import DEFAULT_MAX_MESSAGE_BYTES
from imgpipe.serving.server.loading import LoaderOptions, make_loader
from imgpipe.serving.server.pool import SheddingPool
from imgpipe.serving.server.remote import base_path_of
from imgpipe.serving.server.request_log import RequestLogOptions, RequestLogs
from imgpipe.serving.server.rest.options import RestOptions
from imgpipe.serving.server.runtime import available_cores
from imgpipe.serving.server.servable import Loader
from imgpipe.serving.server.services import ServiceOptions, handlers
from imgpipe.serving.server.status import StatusError
from imgpipe.serving.server.textproto import Monitoring, SslConfig

if TYPE_CHECKING:
    from imgpipe.serving.server.rest.app import Page
    from imgpipe.serving.server.rest.listener import Listener

_log = logging.getLogger(__name__)
HEALTH_SERVICES = (
    "",
    "PredictionService",
    "ModelService",
    "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
)
"""Names under which health is asked: the whole server, TensorFlow Serving's, the full ones."""
_HEALTH_POOL = futures.ThreadPoolExecutor(2, thread_name_prefix="health")
"""Questions of health do not queue behind requests."""
_WORKERS_A_CORE = 16
_DRAIN_LOOK_S = 0.01


@dataclass(frozen=True)
class ServerOptions:
    """Everything but what is served and where it listens."""

    core: CoreOptions = field(default_factory=CoreOptions)
    loader: LoaderOptions = field(default_factory=LoaderOptions)
    services: ServiceOptions = field(default_factory=ServiceOptions)
    request_log: RequestLogOptions = field(default_factory=RequestLogOptions)
    max_workers: int = 0
    """Requests at once; 0 for 16 a core (TensorFlow releases Python's lock while it runs, and a
    request that waits costs nothing)."""
    max_waiting: int = 1024
    """Requests in the queue; what comes beyond is refused. 0 for any number."""
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES
    """Of one gRPC request, decompressed; -1 for gRPC's own bound of 2 GiB."""
    tls: SslConfig | None = None
    socket_path: str = ""
    """Listen on this Unix socket too."""
    channel_arguments: tuple[tuple[str, int | str], ...] = ()
    access_log: str = ""
    """File of JSON lines, ``-`` for stderr."""
    config_file: Path | None = None
    """Read again every ``config_poll_seconds``."""
    config_poll_seconds: float = 0.0
    monitoring: Monitoring | None = None
    """Metrics on a page of the REST interface."""
    rest: RestOptions | None = None
    """The REST interface; none without."""


class ModelServer:
    """Serves the versions under base paths, and swaps when newer ones appear.

    Args:
        model_name: the name requests use.
        base_path: directory of ``<version>/`` directories, or a remote one such as
            ``gs://bucket/models/flowers``; may appear later.
        host: address to listen on; other machines reach it only when this says so.
        port: 0 for any free one, see the result of ``start``; -1 for none (a socket path alone).
        poll_seconds: time between looks at the base path; 0 looks once.
        models: several models in place of ``model_name`` and ``base_path``.
        options: all the rest.
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
        if not models:
            if not model_name:
                raise BadArgument("A model needs a name. Received an empty one.")
            path = base_path_of(str(base_path))
            models = [ModelConfig(model_name, path.absolute() if isinstance(path, Path) else path)]
        if not -1 <= port <= 65535:
            raise BadArgument(f"A port is a number from 0 to 65535. Received: {port}.")
        if core.poll_seconds < 0:
            raise BadArgument(
                f"The poll wait is 0 s (once) or more. Received: {core.poll_seconds}."
            )
        self.host, self.port = host, port
        self._wanted = list(models)
        self.calls = Calls()
        self._access_log = AccessLog(options.access_log) if options.access_log else None
        if self._access_log:
            self.calls.observers.append(self._access_log)
        self._health = _Health()
        self._draining = False
        self._up: bool | None = None
        self._page: Page | None = None
        self._services = options.services
        shown = options.monitoring and options.monitoring.prometheus and options.rest
        if shown or options.services.allow_reload:
            loader, core = self._count(core)
        else:
            loader = make_loader(options.loader)
        self.core = Core(loader, core, self._set_health)
        self._rest: Listener | None = None
        self.rest_port = options.rest.port if options.rest else -1
        self.request_logs = RequestLogs(options.request_log)
        self._stopping = threading.Event()
        self._set_health()
        self._grpc = self._make_grpc()

    def _count(self, core: CoreOptions) -> tuple[Loader, CoreOptions]:
        """Metrics of all that happens, for their page and for what a reload is asked to tell."""
        from imgpipe.serving.server.metrics import Metrics

        options = self._options
        metrics = Metrics(lambda name: name in self.core.models)
        self.calls.observers.append(metrics)
        self._services = replace(options.services, count=metrics.count)
        if options.rest and options.monitoring and options.monitoring.prometheus:
            from imgpipe.serving.server.rest.app import Page

            self._page = Page(options.monitoring.path, metrics.page)
        loader = metrics.counted(make_loader(options.loader, metrics.batch))
        return loader, replace(core, load=replace(core.load, on_warm_up=metrics.warmed_up))

    def _make_grpc(self) -> Any:
        options = self._options
        workers = options.max_workers or _WORKERS_A_CORE * available_cores()
        self._pool = SheddingPool(workers, options.max_waiting)
        # Beyond this gRPC itself refuses, before it reads: what is refused costs memory too.
        hard = workers + 4 * options.max_waiting + 64 if options.max_waiting else None
        server = grpc.server(
            self._pool,
            options=[
                ("grpc.max_receive_message_length", options.max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # else a second server would quietly share the port
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),  # clients ping every 30 s
                *options.channel_arguments,
            ],
            maximum_concurrent_rpcs=hard,
        )
        server.add_generic_rpc_handlers(
            handlers(self.core, self.calls, self.request_logs, self._services)
        )
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
            BadArgument: the models or the TLS files are not what they should be.
        """
        if self.port >= 0:
            self.port = self._listen(self.target)
        if self._options.socket_path:
            self._listen(f"unix:{self._options.socket_path}", local=True)
        if self._options.rest:
            self._listen_rest(self._options.rest)
        try:
            self.core.reload(self._wanted)
        except StatusError as error:
            if self._rest:
                self._rest.stop(0)
            raise StartRefused(f"Failed to start server. Error: {error.message}") from error
        if self._options.rest:
            self._start_rest(self._options.rest)
        self._grpc.start()
        if self._options.config_file and self._options.config_poll_seconds > 0:
            threading.Thread(target=self._follow_config, name="config-file", daemon=True).start()
        _log.info("listening on %s", self.target)
        if self._rest:
            _log.info("REST interface on %s", self.rest_target)
        return self.port

    def _listen_rest(self, options: RestOptions) -> None:
        from imgpipe.serving.server.rest.listener import Listener

        self._rest = Listener(self.host, options.port, self._options.tls)
        self.rest_port = self._rest.port

    def _start_rest(self, options: RestOptions) -> None:
        from imgpipe.serving.server.rest.api import Api
        from imgpipe.serving.server.rest.app import Endpoint, make_app

        api = Api(self.core, self.calls, self.request_logs, options, self._pool.workers)
        endpoint = Endpoint(api, self._pool, options)
        if self._rest:
            self._rest.start(make_app(endpoint, options, self.core.ready, self._page), endpoint)

    @property
    def rest_target(self) -> str:
        """``http://host:port`` of the REST interface, for a client on this machine."""
        return f"http{'s' * bool(self._options.tls)}://{self.host}:{self.rest_port}"

    def _listen(self, target: str, local: bool = False) -> int:
        tls = self._options.tls
        try:
            if tls is None or local:
                return int(self._grpc.add_insecure_port(target))
            credentials = grpc.ssl_server_credentials(
                [(tls.server_key.encode(), tls.server_cert.encode())],
                tls.custom_ca.encode() or None,
                tls.client_verify,
            )
            return int(self._grpc.add_secure_port(target, credentials))
        except RuntimeError as error:
            why = "the port is taken, or the address is not one of this machine"
            if tls is not None and not local:
                why += ", or key and certificate do not belong together"
            raise PortBusy(
                f"Cannot listen on {target}: {why}. Stop the other server, or choose another port."
            ) from error

    def _follow_config(self) -> None:
        """Read the config file again and again; a bad one changes nothing."""
        file = self._options.config_file
        before = self._wanted
        while file and not self._stopping.wait(self._options.config_poll_seconds):
            try:
                wanted = configs.read_models(file)
                if wanted != before:
                    _log.info("%s has changed: %s", file, ", ".join(m.name for m in wanted))
                    self.core.reload(wanted)
                before = wanted
            except (ServerError, StatusError) as error:
                _log.error("config file not taken, what is served stays: %s", error)

    def wait_until_available(self, timeout: float = 60.0) -> int:
        """Wait until the models answer; returns the version of the first.

        Raises:
            StatusError: one failed to load (the cause is in the message), or the time is over.
        """
        versions = [m.wait_until_available(timeout) for m in self.core.models.values()]
        return versions[0]

    def _set_health(self) -> None:
        if self._draining:
            return
        up = hasattr(self, "core") and self.core.ready()
        if up is self._up:
            return  # watchers hear of changes alone
        self._up = up
        status = health_pb2.HealthCheckResponse
        for name in HEALTH_SERVICES:
            self._health.set(name, status.SERVING if up else status.NOT_SERVING)

    def stop(self, grace: float = 30.0) -> bool:
        """Turn unhealthy, refuse new requests, let those that run finish within ``grace`` s.

        Returns False when some did not: their clients have been told, the threads run on until
        TensorFlow is done with them, and their version is unloaded then.
        """
        self._draining = True
        self._stopping.set()
        self._health.end()
        # Still listening: gRPC would cancel what is just coming in, and no client retries that.
        if self._rest:
            self._rest.drain()
        self._pool.drain()
        end = time.monotonic() + grace
        while not self._pool.idle() and time.monotonic() < end:
            time.sleep(_DRAIN_LOOK_S)
        left = max(end - time.monotonic(), 0.0)
        self._grpc.stop(left).wait()  # comes back after the grace, whatever still runs
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class _Health(health.HealthServicer):
    """The official servicer, with threads of its own for both methods."""

    def __init__(self) -> None:
        super().__init__(experimental_thread_pool=_HEALTH_POOL)
        check = super().Check

        def in_own_pool(request: Any, context: Any) -> Any:
            return check(request, context)

        in_own_pool.experimental_thread_pool = _HEALTH_POOL  # type: ignore[attr-defined]
        self.Check = in_own_pool

    def end(self) -> None:
        """NOT_SERVING for good; whoever watches hears it, and that nothing more will come.

        An open stream would hold up the drain for all of its grace.
        """
        self.enter_graceful_shutdown()
        with self._lock:
            streams = [send for found in self._send_response_callbacks.values() for send in found]
            self._send_response_callbacks.clear()
        for send in streams:
            send(None)


class StartRefused(BadArgument):
    """What should be served cannot be."""
