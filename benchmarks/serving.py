"""The embedded server beside the model in process, the client of bytes beside that of floats.

    python -m benchmarks.serving

Model, server, load and the model in process have a process each. All is of one model (a head with
fresh weights on the default backbone, the project's own export) and of one set of drawn JPEGs;
rounds take turns, medians are shown. Client and server share the machine's cores, the model in
process has them to itself.
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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.common import ROOT, Figure
from benchmarks.serving_parts import FLOATS, MODEL

CONCURRENCY = (1, 8, 32)
BATCHES = (1, 8, 32)
_START_LIMIT_S = 120.0
_PART_LIMIT_S = 900.0
_ENVIRONMENT = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONSAFEPATH": "1"}


def main() -> None:
    """All measurements, one after the other, and the table."""
    parser = common.parser(__doc__, data=False)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window", type=float, default=3.0, help="seconds of a window of load")
    parser.add_argument("--swaps", type=int, default=5, help="versions published under load")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the model there (new)")
    options = parser.parse_args()
    print(f"machine: {common.machine()}", flush=True)
    with common.workplace(options.keep) as work:
        part("make", str(work))
        figures = [
            *throughput(work, options),
            *clients(work, options),
            start_up(work, options),
            swaps(work, options),
        ]
    common.finish(figures, options.json)


# --- processes -----------------------------------------------------------------------------------
def part(*arguments: str) -> Any:
    """Run one of ``serving_parts`` in a process of its own; what it found out."""
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
def server(base: Path, model: str, *flags: str) -> Iterator[str]:
    """The embedded server on one model, until the block ends; yields host:port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "serving.server.model_server", f"--model_name={model}"]
    command += [f"--model_base_path={base}", f"--port={port}", *flags]
    process = subprocess.Popen(command, cwd=ROOT, env=_ENVIRONMENT, stderr=subprocess.DEVNULL)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def wait(target: str, model: str) -> None:
    """Until the model is there."""
    from serving.client import Client

    with Client(target, model, wait_for_ready=True) as client:
        client.wait_until_available(_START_LIMIT_S)


# --- throughput and latency ----------------------------------------------------------------------
def throughput(work: Path, options: argparse.Namespace) -> list[Figure]:
    """Server at each concurrency against the model in process at its best batch."""
    inside: list[dict[str, Any]] = []
    outside: list[dict[str, Any]] = []
    with server(work / MODEL, MODEL) as target:
        wait(target, MODEL)
        for _ in range(options.rounds):
            sizes = ",".join(map(str, BATCHES))
            inside.append(part("inside", str(work), sizes, str(options.window)))
            levels = ",".join(map(str, CONCURRENCY))
            outside.append(part("load", target, str(work), levels, str(options.window)))
    rates = {size: _median(found["rates"][str(size)] for found in inside) for size in BATCHES}
    best = max(rates, key=lambda size: rates[size])
    single = _median(found["p50_ms"] for found in inside)
    figures = [
        Figure(
            "model in process, images/s",
            ", ".join(f"{rate:.1f} at batch {size}" for size, rate in rates.items())
            + f"; single image p50 {single:.1f} ms",
        )
    ]
    for place, concurrency in enumerate(CONCURRENCY):
        found = [run["levels"][place] for run in outside]
        rate = _median(level["throughput"] for level in found)
        p50, p99 = (_median(level["latency_ms"][q] for level in found) for q in ("p50", "p99"))
        unstable = sum(not level["stable"] for level in found)
        errors = sum(sum(level["errors"].values()) for level in found)
        note = f", {errors} errors" if errors else ""
        note += f", {unstable} of {len(found)} not stable" if unstable else ""
        figures.append(
            Figure(
                f"server, {concurrency} callers, against in process at batch {best}",
                f"{rate / rates[best]:.2f} × ({rate:.1f} images/s, p50 {p50:.1f} ms, "
                f"p99 {p99:.1f} ms{note})",
                "≥ 1.0 ×" if concurrency > 1 else "",
            )
        )
    batched = _median(run["batched"]["throughput"] * 32 for run in outside)
    figures.append(
        Figure(
            "server, 4 requests of 32 images at a time, against the same",
            f"{batched / rates[best]:.2f} × ({batched:.1f} images/s)",
        )
    )
    return [*figures, _overhead(outside, single)]


def _overhead(outside: Sequence[dict[str, Any]], single: float) -> Figure:
    empty = _median(run["empty"]["latency_ms"]["p50"] for run in outside)
    asked = _median(run["levels"][0]["latency_ms"]["p50"] for run in outside)
    return Figure(
        "one caller: time beyond the model in process",
        f"{asked - single:.2f} ms; an empty RPC takes {empty:.2f} ms",
    )


def _median(values: Any) -> float:
    return statistics.median(list(values))


# --- two kinds of clients ------------------------------------------------------------------------
def clients(work: Path, options: argparse.Namespace) -> list[Figure]:
    """Encoded bytes to our signature, against pixels as floats by the official stubs."""
    bytes_: list[dict[str, float]] = []
    floats: list[dict[str, float]] = []
    with server(work / MODEL, MODEL) as ours, server(work / FLOATS, FLOATS) as theirs:
        wait(ours, MODEL)
        wait(theirs, FLOATS)
        for _ in range(options.rounds):
            bytes_.append(part("bytes_client", ours, str(work), str(options.window)))
            floats.append(part("floats_client", theirs, str(work), str(options.window)))
    ours_ms, theirs_ms = (_median(run["p50_ms"] for run in runs) for runs in (bytes_, floats))
    ours_cpu, theirs_cpu = (_median(run["cpu_ms"] for run in runs) for runs in (bytes_, floats))
    ours_size, theirs_size = (runs[0]["request_bytes"] for runs in (bytes_, floats))
    return [
        Figure(
            "client of bytes against the usual: decode, resize, float tensors, official stubs",
            f"{theirs_ms / ours_ms:.2f} × as fast (p50 {ours_ms:.1f} and {theirs_ms:.1f} ms), "
            f"{theirs_size / ours_size:.0f} × fewer bytes sent "
            f"({ours_size / 1024:.0f} and {theirs_size / 1024:.0f} KiB), "
            f"{theirs_cpu / ours_cpu:.1f} × less processor time of the client "
            f"({ours_cpu:.2f} and {theirs_cpu:.2f} ms)",
        )
    ]


# --- start-up and swaps --------------------------------------------------------------------------
def start_up(work: Path, options: argparse.Namespace) -> Figure:
    """From starting the server's process to its first answer."""
    from serving.client import Client

    image = next((work / "images").iterdir()).read_bytes()
    seconds = []
    for _ in range(options.rounds):
        began = time.perf_counter()
        with server(work / MODEL, MODEL) as target:
            wait(target, MODEL)
            with Client(target, MODEL) as client:
                client.classify([image])
            seconds.append(time.perf_counter() - began)
    return Figure("server: start to first answer", f"{statistics.median(seconds):.1f} s")


def swaps(work: Path, options: argparse.Namespace) -> Figure:
    """99th percentile of requests in the seconds of a swap against the others."""
    base = work / "swapped"
    base.mkdir()
    with server(base, MODEL, "--file_system_poll_wait_seconds=0.5") as target:
        found = part("swaps", target, str(work), str(base), str(options.swaps))
    return Figure(
        f"p99 during {options.swaps} version swaps against steady, 4 callers",
        f"{found['swap_p99_ms'] / found['steady_p99_ms']:.2f} × ({found['swap_p99_ms']:.1f} and "
        f"{found['steady_p99_ms']:.1f} ms; {found['requests']} requests, "
        f"{found['errors']} failed, a swap takes {found['swap_s']:.1f} s)",
        "≤ 3 ×",
    )


if __name__ == "__main__":
    main()
