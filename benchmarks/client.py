"""Start-up time and memory of the client, against those of the official stubs.

    python -m benchmarks.client [--rounds 5]

Each candidate runs in new processes that import what it needs and build one request of the size of
a JPEG. The runs alternate, so that other work on the machine affects both alike.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys

from benchmarks import common
from benchmarks.common import ROOT, Figure

_TAIL = """
import json, resource
data = request.SerializeToString(deterministic=True)
print("RESULT", json.dumps({
    "seconds": time.perf_counter() - began,
    "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "bytes": hashlib.sha256(data).hexdigest(),
}))
"""
_HEAD = (
    "import time\nbegan = time.perf_counter()\nimport hashlib\nimage = bytes(range(256)) * 200\n"
)
CANDIDATES = {
    "imgpipe.serving.client": """
import imgpipe.serving.client
from imgpipe.serving.client import messages
request = messages.predict_request("imgpipe", {"image_bytes": [image]})
""",
    "official stubs": """
import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
request = predict_pb2.PredictRequest()
request.model_spec.name = "imgpipe"
request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([image]))
""",
}


def measure(code: str) -> dict[str, float]:
    """Measure a new process: seconds, peak memory in MiB, and the hash of its request."""
    done = subprocess.run(
        [sys.executable, "-c", _HEAD + code + _TAIL],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        cwd=ROOT,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"},
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    return json.loads(line.removeprefix("RESULT "))


def main() -> None:
    """Measure all candidates and print the figures."""
    parser = common.parser(__doc__, data=False)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CANDIDATES}
    for code in CANDIDATES.values():
        measure(code)  # does not count; it fills the page cache
    for _ in range(options.rounds):
        for name, code in CANDIDATES.items():
            runs[name].append(measure(code))
    ours = runs["imgpipe.serving.client"]
    assert len({run["bytes"] for run in ours + runs["official stubs"]}) == 1, "requests differ"
    common.finish(_figures(runs, options.rounds))


def _figures(runs: dict[str, list[dict[str, float]]], rounds: int) -> list[Figure]:
    """Return a figure for each candidate, with its ratio to ours."""
    median = {
        name: [statistics.median(run[key] for run in results) for key in ("seconds", "mib")]
        for name, results in runs.items()
    }
    start, memory = median["imgpipe.serving.client"]
    figures = []
    for name, (seconds, mib) in median.items():
        value = f"{seconds:.2f} s, {mib:.0f} MiB"
        if name == "imgpipe.serving.client":
            value += f" (medians of {rounds}; same request as the official stubs', byte for byte)"
        else:
            value += f" ({seconds / start:.1f} × and {mib / memory:.1f} × ours)"
        figures.append(Figure(f"client start-up and memory: {name}", value))
    return figures


if __name__ == "__main__":
    main()
