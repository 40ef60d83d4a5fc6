"""The text files that tensorflow_model_server reads: models, batching, monitoring.

Text protocol buffers, written by hand: what batching and monitoring say has no Python messages in
``tensorflow-serving-api``, and the remarks are half of their worth.
"""

from __future__ import annotations

import json

from imgpipe.serving.deploy.settings import METRICS_PATH, Deployment

LARGEST_BATCH = 32
"""Measured best for a request of many images; larger ones only wait longer."""
BATCH_WAIT_MICROS = 1_000
"""A request that comes alone waits this long for company, each time."""
QUEUED_BATCHES = 100


def models_config(wanted: Deployment) -> str:
    """models.config: a tensorflow.serving.ModelServerConfig."""
    return f"""\
# Which models are served, and which of their versions. The server looks at this file every minute.
model_config_list {{
  config {{
    name: {_quoted(wanted.model)}
    base_path: {_quoted(wanted.container_path)}  # holds 1/, 2/, ...: imgpipe adds them
    model_platform: "tensorflow"
    model_version_policy {{
      latest {{ num_versions: 1 }}  # 2 keeps the version before at hand for clients that name it
      # specific {{ versions: 1 versions: 2 }}  # instead of latest: exactly these
    }}
    # Names for versions, so that clients ask for "stable" and never change. A label is only given
    # to a version that is already served: serve both first (above), then add the labels.
    # version_labels {{ key: "stable" value: 1 }}
    # version_labels {{ key: "canary" value: 2 }}
  }}
}}
"""


def batching_config(wanted: Deployment) -> str:
    """batching.config: a tensorflow.serving.BatchingParameters."""
    sizes = [size for size in (1, 2, 4, 8, 16, 32, 64) if size <= LARGEST_BATCH]
    allowed = "\n".join(f"allowed_batch_sizes: {size}" for size in sizes)
    return f"""\
# Requests that arrive together are run together.
max_batch_size {{ value: {LARGEST_BATCH} }}  # a request with more images is split, see below
batch_timeout_micros {{ value: {BATCH_WAIT_MICROS} }}  # wait for company; 0 for the shortest \
latency of a lone caller
num_batch_threads {{ value: {wanted.cpus} }}  # as many as the server has cores
# Beyond this many full batches callers get UNAVAILABLE and try again: lower it where a late answer
# is worth nothing.
max_enqueued_batches {{ value: {QUEUED_BATCHES} }}
enable_large_batch_splitting {{ value: true }}
max_execution_batch_size {{ value: {LARGEST_BATCH} }}
# Batches are filled up to the next of these, so that the runtime meets few shapes. The last is the
# largest batch.
{allowed}
"""


def monitoring_config() -> str:
    """monitoring.config: a tensorflow.serving.MonitoringConfig."""
    return f"""\
# Figures for Prometheus, on the REST port.
prometheus_config {{
  enable: true
  path: {_quoted(METRICS_PATH)}
}}
"""


def all_configs(wanted: Deployment) -> dict[str, str]:
    """The three files by name."""
    return {
        "models.config": models_config(wanted),
        "batching.config": batching_config(wanted),
        "monitoring.config": monitoring_config(),
    }


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
