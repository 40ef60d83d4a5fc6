"""Cost and memory of the judgement against the number of pictures.

    python -m benchmarks.scale --counts 1000 10000 100000
    python -m benchmarks.scale --graph --counts 1000 10000

Soft random pictures of 160 × 120 pixels, every one another, are drawn once; the first 1,000,
10,000 … of them are judged, each set in a process of its own: by `imgpipe check`, or with
``--graph`` by ImageExampleGen, ImageFilter and StatisticsGen of the pipeline itself, on its engine.
Cost is processor time a picture without what an empty start costs; the goal is that neither it nor
the peak memory grows.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from benchmarks import common
from benchmarks.common import Figure

SIZE = (160, 120)
LABELS = ("warm", "cold")
_LEAN = np.array(((40, 0, -40), (-40, 0, 40)))  # of the colours of each
_FEWEST = 16  # pictures of the run that tells what a start costs
_MIB = 1 << 20


@dataclass(frozen=True)
class Cost:
    """What judging one set came to; `nodes` holds the same by node, where there are any."""

    seconds: float  # of the clock
    processor: float  # seconds
    peak_mib: float
    nodes: dict[str, dict[str, float]] = field(default_factory=dict)


def draw(job: tuple[Path, int, int]) -> None:
    """Pictures number `start` up to `stop`, in two classes."""
    folder, start, stop = job
    for number in range(start, stop):
        kind = number % len(LABELS)
        coarse = np.random.default_rng(number).integers(0, 256, (9, 12, 3)) + _LEAN[kind]
        small = Image.fromarray(coarse.clip(0, 255).astype(np.uint8))
        out = io.BytesIO()
        small.resize(SIZE, Image.Resampling.BICUBIC).save(out, "JPEG", quality=85)
        place = folder / LABELS[kind] / f"{number:06d}.jpg"
        place.write_bytes(out.getvalue())


def draw_up_to(folder: Path, drawn: int, count: int) -> None:
    """Add pictures to the `drawn` ones of a folder, on all cores, until there are `count`."""
    step = 1 + (count - drawn) // 8
    jobs = [(folder, n, min(n + step, count)) for n in range(drawn, count, step)]
    with ProcessPoolExecutor() as pool:
        list(pool.map(draw, jobs))


def check(folder: Path, work: Path, count: int) -> Cost:
    """Of one `imgpipe check`."""
    report = work / "check.json"
    command = [sys.executable, "-m", "imgpipe.pipeline.cli", "check", str(folder)]
    started = time.perf_counter()
    process = psutil.Popen([*command, "--json", str(report)], stdout=subprocess.DEVNULL)
    peak, used = 0, 0.0
    while process.poll() is None:
        try:
            peak = max(peak, process.memory_info().rss)
            used = sum(process.cpu_times()[:2])
        except psutil.NoSuchProcess:
            break
        time.sleep(0.2)
    if process.wait() not in (0, 4):
        raise SystemExit(f"imgpipe check {folder} left with {process.returncode}")
    _conserved(json.loads(report.read_text()), count)
    return Cost(time.perf_counter() - started, used, peak / _MIB)


def graph(folder: Path, work: Path, count: int) -> Cost:
    """Of the nodes up to StatisticsGen."""
    command = [sys.executable, "-m", "benchmarks.data_nodes", str(folder), str(work / f"o{count}")]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=common.ROOT)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} left with {done.returncode}\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    _conserved(found, count)
    nodes = found["nodes"]
    return Cost(
        time.perf_counter() - started,
        sum(node["processor"] for node in nodes.values()),
        max(node["peak_mib"] for node in nodes.values()),
        nodes,
    )


def _conserved(found: dict[str, Any], count: int) -> None:
    if not found["in"] == count == found["kept"] + found["rejected"]:
        raise SystemExit(
            f"pictures were lost: {count} drawn, {found['in']} in, {found['kept']} kept, "
            f"{found['rejected']} rejected"
        )


def _figures(count: int, cost: Cost, start: Cost) -> list[Figure]:
    each = (cost.processor - start.processor) / count * 1000
    text = (
        f"{each:.2f} ms of processors a picture, {cost.seconds:.0f} s in all, peak "
        f"{cost.peak_mib:.0f} MiB"
    )
    rows = [Figure(f"judging {count:,} pictures of 160 × 120", text)]
    for name, node in cost.nodes.items():
        each = (node["processor"] - start.nodes[name]["processor"]) / count * 1000
        text = f"{each:.2f} ms of processors a picture, peak {node['peak_mib']:.0f} MiB"
        rows.append(Figure(f"… of which {name}", text))
    return rows


def main() -> None:
    """Draw, judge the first of each count, print cost and memory."""
    parser = common.parser(__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--graph", action="store_true", help="the pipeline's nodes, not the check")
    options = parser.parse_args()
    measure: Callable[[Path, Path, int], Cost] = graph if options.graph else check
    print(f"machine: {common.machine()}")
    figures, costs = [], {}
    with common.workplace(options.work) as work:
        folder, drawn = work / "photographs", 0
        for label in LABELS:
            (folder / label).mkdir(parents=True)
        for count in [_FEWEST, *sorted(options.counts)]:
            draw_up_to(folder, drawn, count)
            drawn = count
            costs[count] = measure(folder, work, count)
            if count == _FEWEST:
                continue
            rows = _figures(count, costs[count], costs[_FEWEST])
            print("\n".join(f"{row.what}: {row.value}" for row in rows), flush=True)
            figures += rows
    fewest, most = min(options.counts), max(options.counts)
    if fewest < most:
        growth = costs[most].peak_mib / costs[fewest].peak_mib - 1
        what = f"peak memory of {most:,} against {fewest:,}"
        figures.append(Figure(what, f"{growth:+.1%}", "within 10 %"))
    common.finish(figures, options.json)


if __name__ == "__main__":
    main()
