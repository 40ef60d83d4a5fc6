"""The text files that tensorflow_model_server reads: models, batching, monitoring.

They are text protocol buffers written as templates, because ``tensorflow-serving-api`` has no
Python messages for batching and monitoring, and because the comments in them matter to readers.
"""

from __future__ import annotations

import json

from imgpipe.serving.deploy.settings import METRICS_PATH, Deployment

LARGEST_BATCH = 32
"""Largest batch. It was measured to be best for requests of many images; larger batches only wait
longer."""
BATCH_WAIT_MICROS = 1_000
"""How long a batch waits for more requests, which a single request always does."""
QUEUED_BATCHES = 100


def models_config(wanted: Deployment) -> str:
    """Return models.config, a tensorflow.serving.ModelServerConfig."""
    return f"""\
# The models to serve and their versions. The server reads this file again every minute.
model_config_list {{
  config {{
    name: {_quoted(wanted.model)}
    base_path: {_quoted(wanted.container_path)}  # holds 1/, 2/, ...: imgpipe adds them
    model_platform: "tensorflow"
    model_version_policy {{
      latest {{ num_versions: 1 }}  # 2 also serves the previous version to clients that ask for it
      # specific {{ versions: 1 versions: 2 }}  # replaces latest: serve exactly these
    }}
    # Labels are names for versions, so that clients can always ask for "stable". Only a version
    # that is already served can get a label: serve both versions first (above), then add labels.
    # version_labels {{ key: "stable" value: 1 }}
    # version_labels {{ key: "canary" value: 2 }}
  }}
}}
"""


def batching_config(wanted: Deployment) -> str:
    """Return batching.config, a tensorflow.serving.BatchingParameters."""
    sizes = [size for size in (1, 2, 4, 8, 16, 32, 64) if size <= LARGEST_BATCH]
    allowed = "\n".join(f"allowed_batch_sizes: {size}" for size in sizes)
    return f"""\
# Requests that arrive at the same time are run as one batch.
max_batch_size {{ value: {LARGEST_BATCH} }}  # a request with more images is split, see below
batch_timeout_micros {{ value: {BATCH_WAIT_MICROS} }}  # wait for more requests; 0 gives single \
callers the shortest latency
num_batch_threads {{ value: {wanted.cpus} }}  # the number of CPU cores of the server
# When this many full batches are waiting, callers get UNAVAILABLE and can retry. Lower the number
# where a late answer is of no use.
max_enqueued_batches {{ value: {QUEUED_BATCHES} }}
enable_large_batch_splitting {{ value: true }}
max_execution_batch_size {{ value: {LARGEST_BATCH} }}
# Batches are padded to the next of these sizes, so that the runtime sees few shapes. The last size
# must be the largest batch.
{allowed}
"""


def monitoring_config() -> str:
    """Return monitoring.config, a tensorflow.serving.MonitoringConfig."""
    return f"""\
# Metrics for Prometheus, on the REST port.
prometheus_config {{
  enable: true
  path: {_quoted(METRICS_PATH)}
}}
"""


def all_configs(wanted: Deployment) -> dict[str, str]:
    """Return the contents of the three files by name."""
    return {
        "models.config": models_config(wanted),
        "batching.config": batching_config(wanted),
        "monitoring.config": monitoring_config(),
    }


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
