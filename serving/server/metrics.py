"""Metrics for Prometheus, with the names, labels and microseconds of TensorFlow Serving.

So a dashboard that is made for it shows this server too. The memory and the processor time of the
process stand beside them, under the names that all clients of Prometheus have.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from imgpipe.serving.server.calls import Call
from imgpipe.serving.server.status import Code

T = TypeVar("T", Gauge, Histogram)
_MICRO = 1e6
_LATENCY = tuple(10 * 1.8**power for power in range(33))
"""Bucket limits in µs, up to about 20 minutes, as in TensorFlow Serving."""
_METHOD = "Predict"
_COUNTED = re.compile(rb"^(# TYPE :tensorflow:\S+(?<!_created)) gauge$", re.MULTILINE)
"""A count with a name of TensorFlow Serving: prometheus-client would append `_total` to it."""
_SERVING = ":tensorflow:serving:"


class Metrics:
    """Observer of `calls.Calls`; Prometheus reads the result of `page`.

    All names in requests but that of the model share one line, because each line would take memory
    for as long as the server runs.

    Attributes:
        of_requests: The metrics with the names of TensorFlow Serving.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._registry = CollectorRegistry(auto_describe=False)
        self.of_requests: list[Gauge | Histogram] = []
        ProcessCollector(registry=self._registry)
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
        metric = kind(name, meaning, labels.split(), registry=self._registry, **options)
        self.of_requests.append(metric)
        return metric

    def __call__(self, call: Call) -> None:
        """Count a request of Predict."""
        if call.method != _METHOD:
            return
        model = call.model if call.model == self._model else ""
        self._requests.labels(model, call.code.name).inc()
        if call.run_seconds:
            self._runtime.labels(model, _METHOD, "TF1").observe(call.run_seconds * _MICRO)
        # As in TensorFlow Serving, only successes have a latency, and REST has its methods in lower
        # case.
        if call.code is Code.OK:
            method = _METHOD.lower() if call.entrypoint == "REST" else _METHOD
            micros = call.seconds * _MICRO
            self._latency.labels(model, method, call.entrypoint).observe(micros)

    def page(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return _COUNTED.sub(rb"\1 counter", generate_latest(self._registry))
