"""Cost and memory of judging, or of a whole run, against the number of images.

    python -m benchmarks.scale --counts 1000 10000 100000
    python -m benchmarks.scale --graph --counts 1000 10000
    python -m benchmarks.scale --run --size 96 --counts 1000 25000

Soft random images of 160 × 120 pixels, all different and of two kinds (warm and cold), are drawn
once; the first 1,000, 10,000 … of them are processed, each set in a process of its own. The default
is ``imgpipe check``. ``--graph`` runs ImageExampleGen, ImageFilter and StatisticsGen of the
pipeline on its engine, ``--run`` a whole ``imgpipe run`` with fine-tuning. Costs of the first two
are processor time for each image without that of a start; those of a run are time of the clock by
component. The goal is that neither cost nor peak memory grows.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from benchmarks import common
from benchmarks.common import Figure

if TYPE_CHECKING:
    from imgpipe.pipeline.runners.local import NodeResult

SIZE = (160, 120)
LABELS = ("warm", "cold")
_LEAN = np.array(((40, 0, -40), (-40, 0, 40)))  # of the colours of each
_FEWEST = 16  # images of the set that tells what a start costs
_DATA_NODES = ("ImageExampleGen", "ImageFilter", "StatisticsGen")
_RUN_NODES = (*_DATA_NODES[:2], "FeatureBank", "ImageTrainer", "ImageEvaluator", "Predictor")


@dataclass(frozen=True)
class Cost:
    """Cost of one set of images.

    Attributes:
      seconds: time of the clock.
      peak_mib: most resident memory.
      parts: seconds by name of what is compared; "all" is the whole.
      memory: peak memory by name, where the parts were measured one by one.
    """

    seconds: float
    peak_mib: float
    parts: dict[str, float]
    memory: dict[str, float] = field(default_factory=dict)


# --- images --------------------------------------------------------------------------------------
def _draw(job: tuple[Path, int, int]) -> None:
    """Draws the images with the numbers from `start` up to `stop`."""
    folder, start, stop = job
    for number in range(start, stop):
        kind = number % len(LABELS)
        coarse = np.random.default_rng(number).integers(0, 256, (9, 12, 3)) + _LEAN[kind]
        out = io.BytesIO()
        small = Image.fromarray(coarse.clip(0, 255).astype(np.uint8))
        small.resize(SIZE, Image.Resampling.BICUBIC).save(out, "JPEG", quality=85)
        (folder / LABELS[kind] / f"{number:06d}.jpg").write_bytes(out.getvalue())


def _draw_up_to(folder: Path, drawn: int, count: int) -> None:
    """Adds images to the `drawn` ones of a folder, on all cores, until there are `count`."""
    step = 1 + (count - drawn) // 8
    jobs = [(folder, n, min(n + step, count)) for n in range(drawn, count, step)]
    with ProcessPoolExecutor() as pool:
        list(pool.map(_draw, jobs))


# --- ways of processing them ---------------------------------------------------------------------
def check(folder: Path, work: Path, count: int, options: argparse.Namespace) -> Cost:
    """One ``imgpipe check``."""
    report = work / "check.json"
    ended = common.measured(
        common.imgpipe("check", str(folder), "--json", str(report)), work / "check.txt", (0, 4)
    )
    _conserved(json.loads(report.read_text()), count)
    return Cost(ended.seconds, ended.peak_mib, {"all": ended.processor})


def graph(folder: Path, work: Path, count: int, options: argparse.Namespace) -> Cost:
    """The nodes of the pipeline up to StatisticsGen."""
    out = work / f"out{count}"
    command = [sys.executable, "-m", "benchmarks.scale", "--nodes", str(folder), str(out)]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=common.ROOT)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} left with {done.returncode}\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    _conserved(found, count)
    parts = {"all": sum(found["processor"].values()), **found["processor"]}
    memory = found["peak_mib"]
    return Cost(time.perf_counter() - started, max(memory.values()), parts, memory)


def run(folder: Path, work: Path, count: int, options: argparse.Namespace) -> Cost:
    """One ``imgpipe run`` with a bank of activations and fine-tuning above the cut."""
    settings = (
        f"model.image_size={options.size}",
        f"views.count={options.views}",
        "train.epochs=10",
        "fine_tune.mode=on",
        f"fine_tune.cut={options.cut}",
        f"fine_tune.epochs={options.epochs}",
        "evaluate.threshold=0",
    )
    ran = common.run_imgpipe(folder, work / f"out{count}", settings)
    times = ran.summary["timings"]["components"]
    tuned = ran.summary["training"]["fine_tune"]["seconds"]
    parts = {"all": ran.seconds, **{node: times[node] for node in _RUN_NODES}, "fine-tuning": tuned}
    return Cost(ran.seconds, ran.peak_mib, parts)


def _conserved(found: dict[str, Any], count: int) -> None:
    if not found["in"] == count == found["kept"] + found["rejected"]:
        raise SystemExit(
            f"images were lost: {count} drawn, {found['in']} in, {found['kept']} kept, "
            f"{found['rejected']} rejected"
        )


# --- the nodes of the pipeline, in a process of their own ----------------------------------------
class _Enough(Exception):
    """Everything that was to be measured has run."""


@dataclass
class _Meter:
    """Observer of the runner: processor seconds and peak memory of each node."""

    processor: dict[str, float] = field(default_factory=dict)
    peak_mib: dict[str, float] = field(default_factory=dict)
    quarantine: str = ""
    _began: float = 0.0

    def started(self, name: str) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is that of this node
        self._began = time.process_time()

    def finished(self, result: NodeResult) -> None:
        if result.name in _DATA_NODES:
            self.processor[result.name] = time.process_time() - self._began
            status = Path("/proc/self/status").read_text().splitlines()
            (line,) = (line for line in status if "VmHWM" in line)
            self.peak_mib[result.name] = int(line.split()[1]) / 1024
        self.quarantine = result.outputs.get("quarantine", self.quarantine)
        if result.name == _DATA_NODES[-1]:
            raise _Enough

    def failed(self, name: str, seconds: float) -> None:
        print(f"{name} failed after {seconds:.0f} s", file=sys.stderr)

    def damaged(self, name: str, what: str) -> None:
        raise SystemExit(f"{name}: {what}")


def nodes(source: str, out: str) -> None:
    """Runs the nodes and prints the counts and what each node cost, as one line of JSON."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from imgpipe.pipeline import config as configs
    from imgpipe.pipeline import graph, inputs, plan
    from imgpipe.pipeline import run as runs
    from imgpipe.pipeline.runners import local

    config = configs.build({"data": {"source": source}, "run": {"out": out}})
    Path(out).mkdir(parents=True)
    storage = graph.Storage(
        f"{out}/artifacts", local.metadata_config(Path(out) / "metadata.sqlite")
    )
    meter = _Meter()
    try:
        known = plan.known(config, inputs.find(config, runs.scan(config)))
        made = graph.create_pipeline(config, known, storage)
        local.run(made, meter)
    except _Enough:
        summary = json.loads((Path(meter.quarantine) / "summary.json").read_text())
        counts = {key: summary[key] for key in ("in", "kept", "rejected")}
        print(json.dumps({**counts, "processor": meter.processor, "peak_mib": meter.peak_mib}))


# --- figures -------------------------------------------------------------------------------------
def _figures(count: int, cost: Cost, start: Cost | None) -> list[Figure]:
    """One figure for the whole and one for each part, without what a start costs."""
    rows = []
    for name, seconds in cost.parts.items():
        each = (seconds - (start.parts[name] if start else 0.0)) / count * 1000
        text = f"{each:.2f} ms {'of processors ' if start else ''}an image"
        if name == "all":
            text += f", {cost.seconds:.0f} s in all, peak {cost.peak_mib:.0f} MiB"
        elif name in cost.memory:
            text += f", peak {cost.memory[name]:.0f} MiB"
        what = f"{count:,} images of 160 × 120" if name == "all" else f"… of which {name}"
        rows.append(Figure(what, text))
    return rows


def _growth(small: Cost, large: Cost, fewest: int, most: int) -> list[Figure]:
    """What an image of the largest set costs against one of the smallest."""
    memory = large.peak_mib / small.peak_mib - 1
    costs = ", ".join(
        f"{name} {large.parts[name] / most / (small.parts[name] / fewest):.2f} ×"
        for name in ("FeatureBank", "fine-tuning")
        if name in large.parts
    )
    figures = [Figure(f"peak memory of {most:,} against {fewest:,}", f"{memory:+.1%}")]
    if costs:
        figures.append(Figure(f"an image of {most:,} against one of {fewest:,}", costs))
    return figures


def main() -> None:
    """Draws, processes the first of each count, prints cost and memory."""
    parser = common.parser(__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000])
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--graph", action="store_const", dest="way", const=graph, default=check)
    way.add_argument("--run", action="store_const", dest="way", const=run)
    parser.add_argument("--cut", default="block11", help="of --run: layer below fine-tuning")
    parser.add_argument("--size", type=int, default=128, help="of --run: pixels of the network")
    parser.add_argument("--views", type=int, default=1, help="of --run: augmented views")
    parser.add_argument("--epochs", type=int, default=2, help="of --run: of fine-tuning")
    options = parser.parse_args()
    measure: Callable[[Path, Path, int, argparse.Namespace], Cost] = options.way
    print(f"machine: {common.machine()}")
    figures: list[Figure] = []
    costs: dict[int, Cost] = {}
    counts, drawn = sorted(options.counts), 0
    with common.workplace(options.work) as work:
        folder = work / "photographs"
        for label in LABELS:
            (folder / label).mkdir(parents=True)
        for count in counts if measure is run else [_FEWEST, *counts]:
            _draw_up_to(folder, drawn, count)
            drawn = count
            costs[count] = measure(folder, work, count, options)
            if count not in counts:
                continue
            rows = _figures(count, costs[count], None if measure is run else costs[_FEWEST])
            print("\n".join(f"{row.what}: {row.value}" for row in rows), flush=True)
            figures += rows
    if counts[0] < counts[-1]:
        figures += _growth(costs[counts[0]], costs[counts[-1]], counts[0], counts[-1])
    common.finish(figures, options.json)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--nodes"]:
        nodes(*sys.argv[2:])
    else:
        main()
