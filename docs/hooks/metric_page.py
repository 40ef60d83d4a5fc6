"""The reference of the metrics of the server, from the metrics that it registers."""

from __future__ import annotations

_SERVING = ":tensorflow:serving:"
_LOAD = ":tensorflow:cc:saved_model:load_"

#: What each metric counts. A metric without a description ends the build with an error.
MEANINGS = {
    f"{_LOAD}attempt_count": "Attempts to load a version, by outcome.",
    f"{_LOAD}latency": "Time of the loads, in microseconds.",
    ":tensorflow:core:graph_run_time_usecs": "Time in the model, in microseconds.",
    ":tensorflow:core:graph_runs": "Requests that reached the model.",
    f"{_SERVING}request_example_count_total": "Images of Classify and Regress requests.",
    f"{_SERVING}request_example_counts": "Images in each Classify or Regress request.",
    f"{_SERVING}request_count": "Requests by model and status.",
    f"{_SERVING}request_latency": "Time of a successful request, in microseconds.",
    f"{_SERVING}runtime_latency": "Time of a request in the model, in microseconds.",
    f"{_SERVING}model_warmup_latency": "Time of the warm-up of a version, in microseconds.",
    f"{_SERVING}batching_session:queuing_latency": (
        "Time that a request waited for its batch, in microseconds."
    ),
    f"{_SERVING}batching_session:wrapped_run_count": "Batches that were run.",
    "imgpipe_server_requests_total": "Requests by model, version, signature and status.",
    "imgpipe_server_request_seconds": "Time of a successful request, in seconds.",
    "imgpipe_server_build_info": "1, with the versions of imgpipe and TensorFlow as labels.",
}

HEADING = """# Metrics of the server

This page is generated from the metrics that the server registers. `imgpipe-model-server` shows them
for Prometheus where its `--monitoring_config_file` enables it, as `tensorflow_model_server` does.
The names that begin with `:tensorflow:` are those of TensorFlow Serving, with its labels and units,
so that dashboards for it work unchanged.

| metric | kind | labels | meaning |
|---|---|---|---|
"""


def metrics() -> str:
    """Return the page of all metrics.

    Raises:
        KeyError: A metric has no description in `MEANINGS`.
    """
    from imgpipe.serving.server.monitoring.metrics import Metrics

    rows = []
    for name, metric in Metrics(lambda _: True).named.items():
        labels = ", ".join(f"`{label}`" for label in metric._labelnames) or "–"
        kind = type(metric).__name__.lower()
        rows.append(f"| `{name}` | {kind} | {labels} | {MEANINGS[name]} |")
    return HEADING + "\n".join(rows) + "\n"
