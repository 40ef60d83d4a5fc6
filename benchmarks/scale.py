"""Cost and memory of the judgement against the number of pictures.

    python -m benchmarks.scale --counts 1000 10000 100000

Soft random pictures of 160 × 120 pixels, every one another, are drawn once; `imgpipe check` judges
the first 1,000, 10,000 … of them, each in a process of its own. Cost is processor time a picture
without what an empty start costs; the goal is that neither it nor the peak memory grows.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from benchmarks import common
from benchmarks.common import Figure

SIZE = (160, 120)
_MIB = 1 << 20


def draw(job: tuple[Path, int, int]) -> None:
    """Pictures number `start` up to `stop`, in two classes."""
    folder, start, stop = job
    for number in range(start, stop):
        coarse = np.random.default_rng(number).integers(0, 256, (9, 12, 3), np.uint8)
        out = io.BytesIO()
        Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC).save(out, "JPEG", quality=85)
        place = folder / ("a", "b")[number % 2] / f"{number:06d}.jpg"
        place.write_bytes(out.getvalue())


def measure(folder: Path, work: Path) -> tuple[float, float, int]:
    """(seconds, processor seconds, peak MiB) of one `imgpipe check`."""
    report = work / "check.json"
    command = [sys.executable, "-P", "-m", "pipeline.cli", "check", str(folder)]
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
    found = json.loads(report.read_text())
    if found["in"] != found["kept"] + found["rejected"]:
        raise SystemExit(f"{folder}: in is not kept + rejected")
    return time.perf_counter() - started, used, peak // _MIB


def main() -> None:
    """Draw, judge the first of each count, print cost and memory."""
    parser = common.parser(__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    options = parser.parse_args()
    figures = []
    with common.workplace(options.work) as work:
        folder, drawn = work / "photographs", 0
        for label in ("a", "b"):
            (folder / label).mkdir(parents=True)
        for count in [16, *sorted(options.counts)]:
            step = 1 + (count - drawn) // 8
            jobs = [(folder, n, min(n + step, count)) for n in range(drawn, count, step)]
            with ProcessPoolExecutor() as pool:
                list(pool.map(draw, jobs))
            drawn = count
            seconds, used, peak = measure(folder, work)
            if count == 16:
                start = used
                continue
            cost = (used - start) / count * 1000
            print(f"{count}: {seconds:.1f} s, {cost:.2f} ms of processors a picture, {peak} MiB")
            text = f"{cost:.2f} ms of processors a picture, {seconds:.0f} s in all, peak {peak} MiB"
            figures.append(Figure(f"judging {count:,} pictures of 160 × 120", text))
    common.finish(figures, options.json)


if __name__ == "__main__":
    main()
