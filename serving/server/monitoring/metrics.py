"""Prometheus metrics with the names, types and labels of TensorFlow Serving.

The values are kept by prometheus-client. The text is written here, because prometheus-client
appends ``_total`` to the names of counters and TensorFlow Serving does not
(util/prometheus_exporter.cc: a ``# TYPE`` line for each metric, no HELP, ``{}`` without labels).
Times are microseconds. TensorFlow Serving counts some events inside the runtime, which are counted
around it here: a ``graph_run`` is a request that reached the model.

Three metrics are imgpipe's own and also name the version and the signature: the number of
requests, their duration, and the versions of the packages of the server.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from imgpipe.serving.server.requests.calls import Call
from imgpipe.serving.server.status import Code
from imgpipe.serving.server.versions.version import Loader

_MICRO = 1e6
_LATENCY = tuple(10 * 1.8**power for power in range(33))
"""Bucket limits in µs, up to about 20 minutes, as in TensorFlow Serving."""
_SECONDS = tuple(0.001 * 2**power for power in range(15))
"""Bucket limits in seconds, from 1 ms to 16 s."""


class Metrics:
    """Observer of ``calls.Calls`` and of loads; Prometheus reads the result of ``page``.

    Attributes:
        named: The metrics of prometheus-client by their names.
    """

    def __init__(self, is_model: Callable[[str], bool]) -> None:
        """Create the counters.

        Args:
            is_model: Returns whether a model of this name is served. All other names in requests
                share one line, because each line would take memory for as long as the server runs.
        """
        self._is_model = is_model
        self._registry = CollectorRegistry(auto_describe=False)
        self.named: dict[str, Any] = {}
        core, serving = ":tensorflow:core:", ":tensorflow:serving:"
        load = ":tensorflow:cc:saved_model:load_"
        self._load_attempts = self._counter(f"{load}attempt_count", "model_path", "status")
        self._load_latency = self._counter(f"{load}latency", "model_path")
        self._run_time = self._counter(f"{core}graph_run_time_usecs")
        self._runs = self._counter(f"{core}graph_runs")
        self._requests = self._counter(f"{serving}request_count", "model_name", "status")
        self._latency = self._histogram(
            f"{serving}request_latency", _LATENCY, "model_name", "API", "entrypoint"
        )
        self._runtime = self._histogram(
            f"{serving}runtime_latency", _LATENCY, "model_name", "API", "runtime"
        )
        own = ("model", "version", "signature", "entrypoint")
        self._own_requests = self._counter("imgpipe_server_requests_total", *own, "status")
        self._own_seconds = self._histogram("imgpipe_server_request_seconds", _SECONDS, *own)
        self._build_info()

    def _build_info(self) -> None:
        name = "imgpipe_server_build_info"
        versions = {package: version(package) for package in ("imgpipe", "tensorflow")}
        self.named[name] = Gauge(name, name, list(versions), registry=self._registry)
        self.named[name].labels(**versions).set(1)

    def _counter(self, name: str, *labels: str) -> Counter:
        metric = Counter(name, name, labels, registry=self._registry)
        self.named[name] = metric
        return metric

    def _histogram(self, name: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        metric = Histogram(name, name, labels, buckets=buckets, registry=self._registry)
        self.named[name] = metric
        return metric

    def __call__(self, call: Call) -> None:
        """Count a request."""
        model = call.model if self._is_model(call.model) else ""
        self._requests.labels(model, call.status).inc()
        own = (model, call.version or "", call.signature, call.entrypoint)
        self._own_requests.labels(*own, call.status).inc()
        if call.run_seconds:
            self._runs.inc()
            self._run_time.inc(round(call.run_seconds * _MICRO))
            self._runtime.labels(model, call.method, "TF1").observe(call.run_seconds * _MICRO)
        # As in TensorFlow Serving, only successes have a latency, and REST has its methods in lower
        # case.
        if call.code == Code.OK:
            method = call.method.lower() if call.entrypoint == "REST" else call.method
            micros = call.seconds * _MICRO
            self._latency.labels(model, method, call.entrypoint).observe(micros)
            self._own_seconds.labels(*own).observe(call.seconds)

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
                self._load_attempts.labels(path, status).inc()
                micros = round((time.monotonic() - began) * _MICRO)
                self._load_latency.labels(path).inc(micros)

        return load

    def page(self) -> str:
        """Return all metrics in the text format of Prometheus."""
        lines: list[str] = []
        for name, metric in sorted(self.named.items()):
            (family,) = metric.collect()
            lines.append(f"# TYPE {name} {family.type}")
            for sample in family.samples:
                # prometheus-client adds the time at which a metric was created.
                if not sample.name.endswith("_created"):
                    lines.append(_line(name, sample, family.type))
        return "\n".join(lines) + "\n"


def _line(name: str, sample: Any, kind: str) -> str:
    if kind == "histogram":
        name += "_" + sample.name.rsplit("_", 1)[1]
    labels = dict(sample.labels)
    if "le" in labels and labels["le"] != "+Inf":
        labels["le"] = f"{float(labels['le']):g}"
    text = ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items())
    value = int(sample.value) if float(sample.value).is_integer() else sample.value
    return f"{name}{{{text}}} {value}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
