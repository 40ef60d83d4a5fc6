"""The embedded server against the model in process.

    python -m benchmarks.serving

The server, the load and the model in process have a process each. All use the same model (the
default backbone and a head with random weights, exported by imgpipe) and the same drawn JPEG files.
Rounds alternate, and medians are printed. Client and server share the cores; the model in process
has them to itself. The cost of a request apart from the network follows from a model that computes
one sum.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.common import ROOT, Figure
from benchmarks.serving_parts import MODEL, TINY

Runs = Sequence[dict[str, Any]]
CONCURRENCY = (1, 8, 32)
BATCHES = (1, 8, 32)
_START_LIMIT_S = 120.0
_PART_LIMIT_S = 900.0
_ENVIRONMENT = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}


def main() -> None:
    """Run all sections and print the figures."""
    parser = common.parser(__doc__, data=False)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window", type=float, default=3.0, help="seconds of each window")
    parser.add_argument("--only", action="append", choices=sorted(SECTIONS), help="one section")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="new folder for the model")
    options = parser.parse_args()
    print(f"machine: {common.machine()}", flush=True)
    with common.workplace(options.keep) as work:
        part("make", str(work))
        figures = [
            figure
            for name, section in SECTIONS.items()
            if not options.only or name in options.only
            for figure in section(work, options)
        ]
    common.finish(figures)


def part(*arguments: str) -> Any:
    """Run a function of `serving_parts` in a process of its own, and return its result."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        subprocess.run(
            [sys.executable, "-m", "benchmarks.serving_parts", str(result), *arguments],
            check=True,
            cwd=ROOT,
            env=_ENVIRONMENT,
            timeout=_PART_LIMIT_S,
        )
        return json.loads(result.read_text())


@contextlib.contextmanager
def server(*flags: str) -> Iterator[str]:
    """Run the embedded server during the block, and yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "imgpipe", "serve", f"--port={port}", "--rest_api_port=0"]
    process = subprocess.Popen(
        [*command, *flags], cwd=ROOT, env=_ENVIRONMENT, stderr=subprocess.DEVNULL
    )
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def one_model(base: Path, model: str) -> tuple[str, str]:
    """Return the flags that serve the versions below `base`."""
    return f"--model_name={model}", f"--model_base_path={base}"


def wait(target: str, model: str) -> None:
    """Wait until a server has loaded the model."""
    from imgpipe.serving.client import Client

    with Client(target, model, wait_for_ready=True) as client:
        client.wait_until_available(_START_LIMIT_S)


def throughput(work: Path, options: argparse.Namespace) -> list[Figure]:
    """Compare both servers with the model in process at its best batch size."""
    inside, outside = (list[dict[str, Any]]() for _ in range(2))
    window = str(options.window)
    sizes, levels = (",".join(map(str, numbers)) for numbers in (BATCHES, CONCURRENCY))
    with server(*one_model(work / MODEL, MODEL)) as target:
        wait(target, MODEL)
        for _ in range(options.rounds):
            inside.append(part("inside", str(work), sizes, window))
            outside.append(part("load", target, str(work), levels, window))
    rates = {size: _median(run["rates"][str(size)] for run in inside) for size in BATCHES}
    best = max(rates, key=lambda size: rates[size])
    single = _median(run["p50_ms"] for run in inside)
    return [
        Figure(
            "model in process, images/s",
            ", ".join(f"{rate:.1f} at batch {size}" for size, rate in rates.items())
            + f"; single image p50 {single:.1f} ms",
        ),
        *_levels(outside, inside, best),
    ]


def _levels(outside: Runs, inside: Runs, best: int) -> list[Figure]:
    """Return a figure for each number of callers; ratios are those within one round."""
    reference = [run["rates"][str(best)] for run in inside]
    figures = []
    for place, concurrency in enumerate(CONCURRENCY):
        levels = [run["levels"][place] for run in outside]
        ratios = [run["throughput"] / of for run, of in zip(levels, reference, strict=True)]
        rate = _median(level["throughput"] for level in levels)
        p50, p99 = (_median(level["latency_ms"][q] for level in levels) for q in ("p50", "p99"))
        unstable = sum(not level["stable"] for level in levels)
        note = f", {unstable} of {len(levels)} not stable" if unstable else ""
        figures.append(
            Figure(
                f"server, {concurrency} callers, against in process at batch {best}",
                f"{_median(ratios):.2f} × ({min(ratios):.2f} to {max(ratios):.2f}; "
                f"{rate:.1f} images/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms{note})",
                "≥ 1.0 ×" if concurrency > 1 else "",
            )
        )
    batched = [run["batched"]["throughput"] * 32 for run in outside]
    ratio = _median(rate / of for rate, of in zip(batched, reference, strict=True))
    name = "server, 4 requests of 32 images at a time, against the same"
    return [*figures, Figure(name, f"{ratio:.2f} × ({_median(batched):.1f} images/s)")]


def overhead(work: Path, options: argparse.Namespace) -> list[Figure]:
    """Measure the cost of a Predict without that of an empty RPC and without the model."""
    outside, inside = (list[dict[str, Any]]() for _ in range(2))
    with (
        server(*one_model(work / MODEL, MODEL)) as target,
        server(*one_model(work / TINY, TINY)) as tiny_target,
    ):
        wait(target, MODEL)
        wait(tiny_target, TINY)
        for _ in range(options.rounds):
            inside.append(part("inside", str(work), "1", str(options.window)))
            outside.append(part("one_caller", target, tiny_target, str(work), str(options.window)))
    empty, tiny, image = (_median(run[k] for run in outside) for k in ("empty", "tiny", "image"))
    single = _median(run["p50_ms"] for run in inside)
    return [
        Figure(
            "one caller: Predict of a model of one sum, without an empty RPC",
            f"{tiny - empty:.2f} ms ({tiny:.2f} and {empty:.2f} ms)",
        ),
        Figure(
            "one caller: a Predict of an image, without the model in process",
            f"{image - single:.1f} ms ({image:.1f} and {single:.1f} ms)",
        ),
    ]


def _median(values: Any) -> float:
    return statistics.median(list(values))


def start_up(work: Path, options: argparse.Namespace) -> list[Figure]:
    """Measure the time from the start of the server to its first answer."""
    from imgpipe.serving.client import Client

    image = next((work / "images").iterdir()).read_bytes()
    seconds = []
    for _ in range(options.rounds):
        began = time.perf_counter()
        with server(*one_model(work / MODEL, MODEL)) as target:
            wait(target, MODEL)
            with Client(target, MODEL) as client:
                client.classify([image])
            seconds.append(time.perf_counter() - began)
    return [Figure("server: start to first answer", f"{statistics.median(seconds):.1f} s")]


SECTIONS: dict[str, Callable[[Path, argparse.Namespace], list[Figure]]] = {
    section.__name__: section for section in (throughput, overhead, start_up)
}

if __name__ == "__main__":
    main()
