"""The reference of the metrics of the server, from the metrics that it registers."""

from __future__ import annotations

HEADING = """# Metrics of the server

This page is generated from the metrics that the server registers. They are at `/metrics` of the
REST port, where Prometheus looks by default, and at `/monitoring/prometheus/metrics`, as in
TensorFlow Serving. Names, labels and units are those of TensorFlow Serving; Prometheus' linter
warns of their colons. Memory and processor time of the process (`process_…`) stand beside them.

| metric | labels | meaning |
|---|---|---|
"""


def metrics() -> str:
    """Return the page of all metrics."""
    from imgpipe.serving.server.metrics import Metrics

    rows = []
    for metric in Metrics("").of_requests:
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        rows.append(f"| `{metric._name}` | {labels} | {metric._documentation} |")
    return HEADING + "\n".join(rows) + "\n"
