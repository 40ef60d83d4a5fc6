"""Processor time and memory of a run, or of `imgpipe check`, by the number of images.

    python -m benchmarks.growth --counts 1000 25000 100000
    python -m benchmarks.growth --check --counts 1000 10000 100000

Random images of two kinds (warm and cold) are drawn, and the first 1,000, 25,000 … of them are
processed by `imgpipe run`, each set with its own output folder, or by `imgpipe check` with
`--check`. The goal: neither memory nor the cost of an image grows from 25,000 images on.
"""

from __future__ import annotations

import argparse
import io
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import common
from benchmarks.common import Ended, Figure

SIZE = (160, 120)
LABELS = ("warm", "cold")
_LEAN = np.array(((40, 0, -40), (-40, 0, 40)))  # shift of the colours of either kind
_FEWEST = 256  # images of the set that measures the start of the program


def _draw(job: tuple[Path, int, int]) -> None:
    """Draw the images with the numbers from `start` up to `stop`."""
    folder, start, stop = job
    for number in range(start, stop):
        kind = number % len(LABELS)
        coarse = np.random.default_rng(number).integers(0, 256, (9, 12, 3)) + _LEAN[kind]
        out = io.BytesIO()
        small = Image.fromarray(coarse.clip(0, 255).astype(np.uint8))
        small.resize(SIZE, Image.Resampling.BICUBIC).save(out, "JPEG", quality=85)
        (folder / LABELS[kind] / f"{number:07d}.jpg").write_bytes(out.getvalue())


def _draw_up_to(folder: Path, drawn: int, count: int) -> None:
    """Add images to the `drawn` ones of a folder, on all cores, until there are `count`."""
    step = 1 + (count - drawn) // 8
    jobs = [(folder, n, min(n + step, count)) for n in range(drawn, count, step)]
    with ProcessPoolExecutor() as pool:
        list(pool.map(_draw, jobs))


def check(folder: Path, work: Path, count: int, options: argparse.Namespace) -> Ended:
    """Measure `imgpipe check`."""
    return common.measured(common.imgpipe("check", str(folder)), work / "check.txt", (0, 4))


def run(folder: Path, work: Path, count: int, options: argparse.Namespace) -> Ended:
    """Measure `imgpipe run`, and print the seconds of each component."""
    network = f"model.image_size={options.size}", f"course.views.count={options.views}"
    settings = (*network, "course.epochs=10", "evaluate.threshold=0")
    ran = common.run_imgpipe(folder, work / f"out{count}", settings)
    data = ran.summary["data"]
    if not data["in"] == count == data["kept"] + data["rejected"]:
        raise SystemExit(f"images were lost: {count} drawn, summary {data}")
    times = ran.summary["timings"]["components"]
    said = ", ".join(f"{node} {seconds:.0f} s" for node, seconds in times.items() if seconds >= 1)
    print(f"{count:,}: {said}", flush=True)
    return ran


def figure(what: str, count: int, ended: Ended, start: Ended) -> Figure:
    """Return the cost of an image without the start of the program, and the peak memory."""
    milliseconds = (ended.processor - start.processor) / count * 1000
    text = f"{milliseconds:.3f} ms of processor time per image, {ended.seconds:.0f} s in all, "
    return Figure(f"{count:,} {what}", f"{text}peak {ended.peak_mib:.0f} MiB")


def growth(what: str, ends: dict[int, Ended]) -> list[Figure]:
    """Compare the memory for the largest set with that for the next smaller one."""
    small, large = sorted(ends)[-2:]
    memory = ends[large].peak_mib / ends[small].peak_mib - 1
    return [Figure(f"{what}: peak memory of {large:,} against {small:,}", f"{memory:+.1%}", "10 %")]


def main() -> None:
    """Draw the images, measure each count and print the figures."""
    parser = common.parser(__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 25_000])
    parser.add_argument("--check", action="store_true", help="measure imgpipe check")
    parser.add_argument("--size", type=int, default=96, help="image size of the network")
    parser.add_argument("--views", type=int, default=1, help="augmented views of a run")
    options = parser.parse_args()
    print(f"machine: {common.machine()}")
    counts = sorted(options.counts)
    figures = []
    ends = dict[int, Ended]()
    with common.workplace(options.work) as work:
        folder = work / "images"
        drawn = 0
        for label in LABELS:
            (folder / label).mkdir(parents=True)
        for count in [_FEWEST, *counts]:
            _draw_up_to(folder, drawn, count)
            drawn = count
            ends[count] = (check if options.check else run)(folder, work, count, options)
            if count in counts:
                figures.append(figure("images of 160 × 120", count, ends[count], ends[_FEWEST]))
                print(f"{figures[-1].what}: {figures[-1].value}", flush=True)
    if counts[1:]:
        figures += growth("whole", ends)
    common.finish(figures)


if __name__ == "__main__":
    main()
