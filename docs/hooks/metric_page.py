"""The reference of the metrics of the server, from the metrics that it registers."""

from __future__ import annotations

HEADING = """# Metrics of the server

This page is generated from the metrics that the server registers. All of them are at
`/monitoring/prometheus/metrics` of the REST port. The names that begin with `:tensorflow:` are
those of TensorFlow Serving, with its labels and units; Prometheus' linter warns of their colons.
The others are also alone at `/metrics`, where Prometheus looks by default.

| metric | labels | meaning |
|---|---|---|
"""


def metrics() -> str:
    """Return the page of all metrics."""
    from imgpipe.serving.server.metrics import Metrics

    rows = []
    registered = Metrics(lambda _: True)
    for registry in (registered.own, registered.of_tensorflow):
        for metric in registry._collector_to_names:
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)
            name = metric._name + ("_total" if metric._type == "counter" else "")
            rows.append(f"| `{name}` | {labels} | {metric._documentation} |")
    return HEADING + "\n".join(rows) + "\n"
