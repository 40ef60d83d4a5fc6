"""The reference of the metrics of the server, from the metrics that it registers."""

from __future__ import annotations

HEADING = """# Metrics of the server

This page is generated from the metrics that the server registers. They are at
`/monitoring/prometheus/metrics` of the REST port. The names that begin with `:tensorflow:` are
those of TensorFlow Serving, with its labels and units.

| metric | labels | meaning |
|---|---|---|
"""


def metrics() -> str:
    """Return the page of all metrics."""
    from imgpipe.serving.server.metrics import Metrics

    rows = []
    for metric in Metrics(lambda _: True).registry._collector_to_names:
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        rows.append(f"| `{metric._name}` | {labels} | {metric._documentation} |")
    return HEADING + "\n".join(rows) + "\n"
