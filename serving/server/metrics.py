"""Metrics for Prometheus, with the names, labels and microseconds of TensorFlow Serving.

Counters are gauges, because prometheus-client would append ``_total`` to the names of counters. The
last metric is imgpipe's own and also names the version and the signature.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest

from imgpipe.serving.server.calls import Call
from imgpipe.serving.server.status import Code
from imgpipe.serving.server.version import Loader

_MICRO = 1e6
_LATENCY = tuple(10 * 1.8**power for power in range(33))
"""Bucket limits in µs, up to about 20 minutes, as in TensorFlow Serving."""
_METHOD = "Predict"
_SERVING, _LOAD = ":tensorflow:serving:", ":tensorflow:cc:saved_model:load_"


class Metrics:
    """Observer of ``calls.Calls`` and of loads; Prometheus reads the result of ``page``.

    Args:
        is_model: Returns whether a model of this name is served. All other names in requests share
            one line, because each line would take memory for as long as the server runs.

    Attributes:
        registry: What Prometheus reads.
    """

    def __init__(self, is_model: Callable[[str], bool]) -> None:
        self._is_model = is_model
        self.registry = CollectorRegistry(auto_describe=False)
        self._loads = self._gauge(
            f"{_LOAD}attempt_count", "Attempts to load a version, by outcome.", "model_path status"
        )
        self._load_time = self._gauge(
            f"{_LOAD}latency", "Time of the loads, in microseconds.", "model_path"
        )
        self._requests = self._gauge(
            f"{_SERVING}request_count", "Requests by model and status.", "model_name status"
        )
        self._latency = self._histogram(
            f"{_SERVING}request_latency",
            "Time of a successful request, in microseconds.",
            "model_name API entrypoint",
        )
        self._runtime = self._histogram(
            f"{_SERVING}runtime_latency",
            "Time of a request in the model, in microseconds.",
            "model_name API runtime",
        )
        self._own = self._gauge(
            "imgpipe_server_requests_total",
            "Requests by model, version, signature and status.",
            "model version signature entrypoint status",
        )

    def _gauge(self, name: str, meaning: str, labels: str) -> Gauge:
        return Gauge(name, meaning, labels.split(), registry=self.registry)

    def _histogram(self, name: str, meaning: str, labels: str) -> Histogram:
        return Histogram(name, meaning, labels.split(), buckets=_LATENCY, registry=self.registry)

    def __call__(self, call: Call) -> None:
        """Count a request."""
        model = call.model if self._is_model(call.model) else ""
        self._requests.labels(model, call.status).inc()
        own = (model, call.version or "", call.signature, call.entrypoint)
        self._own.labels(*own, call.status).inc()
        if call.run_seconds:
            self._runtime.labels(model, _METHOD, "TF1").observe(call.run_seconds * _MICRO)
        # As in TensorFlow Serving, only successes have a latency, and REST has its methods in lower
        # case.
        if call.code == Code.OK:
            method = _METHOD.lower() if call.entrypoint == "REST" else _METHOD
            micros = call.seconds * _MICRO
            self._latency.labels(model, method, call.entrypoint).observe(micros)

    def counted(self, loader: Loader) -> Loader:
        """Return a loader that counts its attempts and calls ``loader``."""

        def load(directory: Path) -> Any:
            began, status = time.monotonic(), "fail"
            try:
                runtime = loader(directory)
                status = "success"
                return runtime
            finally:
                path = str(directory)
                self._loads.labels(path, status).inc()
                self._load_time.labels(path).inc((time.monotonic() - began) * _MICRO)

        return load

    def page(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self.registry)
