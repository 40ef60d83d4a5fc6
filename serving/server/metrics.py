"""Metrics for Prometheus, in two forms: the server's own, and those of TensorFlow Serving.

The server's own follow the conventions of Prometheus (https://prometheus.io/docs/practices/naming),
whose linter is satisfied. The others have the names, labels and microseconds of TensorFlow Serving,
for dashboards that are made for it; its names contain colons, of which the linter warns.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from imgpipe.serving.server.calls import Call, SheddingPool
from imgpipe.serving.server.core import Core
from imgpipe.serving.server.status import Code
from imgpipe.serving.server.version import Loader

T = TypeVar("T", Counter, Gauge, Histogram)
_MICRO = 1e6
_LATENCY = tuple(10 * 1.8**power for power in range(33))
"""Bucket limits in µs, up to about 20 minutes, as in TensorFlow Serving."""
_METHOD = "Predict"
_COUNTED = re.compile(rb"^(# TYPE :tensorflow:\S+(?<!_created)) gauge$", re.MULTILINE)
"""A count with a name of TensorFlow Serving: prometheus-client would append `_total` to it."""
_OWN = "imgpipe_server_"
_SERVING, _LOAD = ":tensorflow:serving:", ":tensorflow:cc:saved_model:load_"


class _Versions(Collector):
    """The versions that answer at the moment it is asked; the models may change at any time."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauge."""
        versions = GaugeMetricFamily(
            f"{_OWN}version_available",
            "1 for each version that answers requests.",
            labels=["model", "version"],
        )
        for name, model in self._core.models.items():
            for number in model.available():
                versions.add_metric([name, str(number)], 1)
        yield versions


class Metrics:
    """Observer of `calls.Calls` and of loads; Prometheus reads the result of `page`.

    Args:
        is_model: Returns whether a model of this name is served. All other names in requests share
            one line, because each line would take memory for as long as the server runs.

    Attributes:
        own: The metrics in the conventions of Prometheus.
        of_tensorflow: The metrics with the names of TensorFlow Serving.
    """

    def __init__(self, is_model: Callable[[str], bool]) -> None:
        self._is_model = is_model
        self.own = CollectorRegistry(auto_describe=False)
        self.of_tensorflow = CollectorRegistry(auto_describe=False)
        self._own_requests = self._new(
            Counter,
            f"{_OWN}requests",
            "Requests by model, version, signature and status.",
            "model version signature entrypoint status",
        )
        self._own_time = self._new(
            Histogram,
            f"{_OWN}request_duration_seconds",
            "Time of a successful request.",
            "model entrypoint",
        )
        attempts = "Attempts to load a version, by outcome."
        self._own_loads = self._new(Counter, f"{_OWN}loads", attempts, "model_path status")
        self._loads = self._new(Gauge, f"{_LOAD}attempt_count", attempts, "model_path status")
        self._load_time = self._new(
            Gauge, f"{_LOAD}latency", "Time of the loads, in microseconds.", "model_path"
        )
        self._requests = self._new(
            Gauge, f"{_SERVING}request_count", "Requests by model and status.", "model_name status"
        )
        self._latency = self._new(
            Histogram,
            f"{_SERVING}request_latency",
            "Time of a successful request, in microseconds.",
            "model_name API entrypoint",
            buckets=_LATENCY,
        )
        self._runtime = self._new(
            Histogram,
            f"{_SERVING}runtime_latency",
            "Time of a request in the model, in microseconds.",
            "model_name API runtime",
            buckets=_LATENCY,
        )

    def _new(self, kind: type[T], name: str, meaning: str, labels: str = "", **options: Any) -> T:
        registry = self.own if name.startswith(_OWN) else self.of_tensorflow
        return kind(name, meaning, labels.split(), registry=registry, **options)

    def watch(
        self, core: Core, pool: SheddingPool, connections: Mapping[str, Callable[[], int]]
    ) -> None:
        """Add what the parts of the server tell of themselves, and the memory of the process."""
        waiting = self._new(Gauge, f"{_OWN}requests_waiting", "Requests in the queue.")
        running = self._new(Gauge, f"{_OWN}requests_running", "Requests in a thread.")
        opened = self._new(Gauge, f"{_OWN}connections", "Open connections, by port.", "port")
        waiting.set_function(lambda: pool.load()[0])
        running.set_function(lambda: pool.load()[1])
        for port, count in connections.items():
            opened.labels(port).set_function(count)
        self.own.register(_Versions(core))
        ProcessCollector(registry=self.own)

    def __call__(self, call: Call) -> None:
        """Count a request of Predict."""
        if call.method != _METHOD:
            return
        model = call.model if self._is_model(call.model) else ""
        self._requests.labels(model, call.code.name).inc()
        own = (model, call.version or "", call.signature, call.entrypoint)
        self._own_requests.labels(*own, call.code.name).inc()
        if call.run_seconds:
            self._runtime.labels(model, _METHOD, "TF1").observe(call.run_seconds * _MICRO)
        # As in TensorFlow Serving, only successes have a latency, and REST has its methods in lower
        # case.
        if call.code is Code.OK:
            method = _METHOD.lower() if call.entrypoint == "REST" else _METHOD
            micros = call.seconds * _MICRO
            self._latency.labels(model, method, call.entrypoint).observe(micros)
            self._own_time.labels(model, call.entrypoint).observe(call.seconds)

    def counted(self, loader: Loader) -> Loader:
        """Return a loader that counts its attempts and calls `loader`."""

        def load(directory: Path) -> Any:
            began = time.monotonic()
            status = "fail"
            try:
                runtime = loader(directory)
                status = "success"
                return runtime
            finally:
                path = str(directory)
                self._own_loads.labels(path, status).inc()
                self._loads.labels(path, status).inc()
                self._load_time.labels(path).inc((time.monotonic() - began) * _MICRO)

        return load

    def own_page(self) -> bytes:
        """Return the server's own metrics in the text format of Prometheus."""
        return generate_latest(self.own)

    def page(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        page = generate_latest(self.of_tensorflow)
        return _COUNTED.sub(rb"\1 counter", page) + self.own_page()
