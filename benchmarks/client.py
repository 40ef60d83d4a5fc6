"""What it costs to start a client: ours against the official stubs, side by side.

Each candidate runs in fresh processes that import what it needs and build one request of a JPEG's
size; the runs alternate, so that a busy machine is unfair to none. Prints medians and ratios::

    python benchmarks/client.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

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
    "serving.client": """
import serving.client
from serving.client import messages
request = messages.predict_request("imgpipe", None, {"image_bytes": [image]})
""",
    "official stubs": """
import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
request = predict_pb2.PredictRequest()
request.model_spec.name = "imgpipe"
request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([image]))
""",
    "official stubs, no tf.make_tensor_proto": """
import grpc
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
request = predict_pb2.PredictRequest()
request.model_spec.name = "imgpipe"
tensor = request.inputs["image_bytes"]
tensor.dtype = 7
tensor.tensor_shape.dim.add().size = 1
tensor.string_val.append(image)
""",
    "floor: grpc and numpy alone": """
import grpc, numpy
class request:
    SerializeToString = staticmethod(lambda deterministic: b"")
""",
}


def measure(code: str) -> dict[str, float]:
    """Seconds, peak MiB and hash of the request of one fresh process."""
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
    """Measure all candidates and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CANDIDATES}
    for code in CANDIDATES.values():
        measure(code)  # once unmeasured: files into the page cache
    for _ in range(rounds):
        for name, code in CANDIDATES.items():
            runs[name].append(measure(code))
    ours = runs["serving.client"]
    assert len({run["bytes"] for run in ours + runs["official stubs"]}) == 1, "requests differ"

    print(f"python benchmarks/client.py --rounds {rounds}   (medians; same request, byte for byte)")
    print(f"{'':42}{'start s':>9}{'ratio':>8}{'peak MiB':>10}{'ratio':>8}")
    base = {key: statistics.median(run[key] for run in ours) for key in ("seconds", "mib")}
    for name, results in runs.items():
        seconds = statistics.median(run["seconds"] for run in results)
        mib = statistics.median(run["mib"] for run in results)
        print(
            f"{name:42}{seconds:9.2f}{seconds / base['seconds']:7.1f}x"
            f"{mib:10.0f}{mib / base['mib']:7.1f}x"
        )


if __name__ == "__main__":
    main()
