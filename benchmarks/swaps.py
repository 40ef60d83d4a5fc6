"""Requests to a server whose version is replaced again and again: is any of them refused or wrong?

    python -m benchmarks.swaps [--requests 40000] [--swaps 10]

The server runs in a process of its own, and is asked over gRPC by several callers. Version n
answers y = x + n, so that each answer tells whether it is that of the version that it names.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from imgpipe.serving.client import Client, ServingError

_MODEL = "m"
_CALLERS = 6
_LIMIT_S = 240.0
"""Seconds after which the callers give up."""


def _export(target: Path, number: int) -> None:
    import tensorflow as tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x + float(number)}

    module.predict = predict
    tf.saved_model.save(module, str(target), signatures={"serving_default": predict})
    # `imgpipe serve` takes versions that name their classes.
    (target / "assets").mkdir(exist_ok=True)
    (target / "assets" / "vocabulary.txt").write_text("class\n")


class _Callers:
    """Asks until enough requests were answered, one of them by the last version, and counts them.

    Attributes:
        answered: Number of answers.
        failures: What went wrong.
        versions: Number of answers by version.
    """

    def __init__(self, target: str, requests: int, last: int) -> None:
        self._target = target
        self._requests = requests
        self._last = last
        self._ends = time.monotonic() + _LIMIT_S
        self._lock = threading.Lock()
        self.answered = 0
        self.failures: list[str] = []
        self.versions: dict[int, int] = {}

    def ask(self) -> None:
        """Ask until all callers together have enough answers, or the time is over."""
        with Client(self._target, _MODEL, timeout=20, attempts=1) as client:
            while time.monotonic() < self._ends:
                if self.answered >= self._requests and self._last in self.versions:
                    return
                try:
                    answer = client.predict({"x": np.array([1], np.float32)})
                    is_right = answer.outputs["y"].tolist() == [1.0 + answer.version]
                    failure = "" if is_right else f"a wrong answer: {answer}"
                except ServingError as error:
                    failure = repr(error)
                    answer = None
                with self._lock:
                    self.answered += 1
                    if failure:
                        self.failures.append(failure)
                    if answer is not None:
                        self.versions[answer.version] = self.versions.get(answer.version, 0) + 1


def _measure(work: Path, requests: int, swaps: int) -> _Callers:
    staged = work / "staged"
    base = work / "versions"
    for number in range(1, swaps + 2):
        _export(staged / str(number), number)
    base.mkdir()
    (staged / "1").rename(base / "1")
    command = [sys.executable, "-m", "imgpipe.pipeline.cli", "serve", str(base), "--model", _MODEL]
    command += ["--port", "0", "--rest-port", "0", "--json", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            target = json.loads(server.stdout.readline())["grpc"]
            for line in server.stdout:
                if json.loads(line).get("state") == "AVAILABLE":
                    break
            threading.Thread(target=server.stdout.read, daemon=True).start()
            callers = _Callers(target, requests, swaps + 1)
            with ThreadPoolExecutor(_CALLERS) as pool:
                running = [pool.submit(callers.ask) for _ in range(_CALLERS)]
                for number in range(2, swaps + 2):
                    while callers.answered < requests * (number - 1) // (swaps + 1):
                        time.sleep(0.01)
                    (staged / str(number)).rename(base / str(number))
                for caller in running:
                    caller.result()
        finally:
            server.terminate()
            server.wait(60)
    return callers


def main() -> None:
    """Print what was answered."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=40_000)
    parser.add_argument("--swaps", type=int, default=10)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="swaps-"))
    began = time.monotonic()
    try:
        outcome = _measure(work, options.requests, options.swaps)
    finally:
        shutil.rmtree(work)
    print(
        f"{outcome.answered:,} requests over {options.swaps} swaps in "
        f"{time.monotonic() - began:.0f} s: {len(outcome.failures)} errors {outcome.failures[:3]}; "
        f"answers by version {dict(sorted(outcome.versions.items()))}"
    )
    sys.exit(bool(outcome.failures) or len(outcome.versions) < options.swaps + 1)


if __name__ == "__main__":
    main()
