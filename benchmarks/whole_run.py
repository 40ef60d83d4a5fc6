"""Seconds and memory of a whole run and of its repetitions.

    python -m benchmarks.whole_run

Each run is `imgpipe run` in a process of its own, measured from start to exit. The first run on
all photographs is repeated twice. Nothing has changed then, so that a repetition finds the outcome
of the first run and starts no component. A run in another output folder has all photographs but a
few, which are then added. The last run must make one forward pass for each of the added images and
each size of images that is tried, unless they decide for another size.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import common
from benchmarks.common import Figure, Finished

_HELP_ROUNDS = 5
_REPETITIONS = ("first repetition", "second repetition")
_SIZES = 3  # of images that a run may try: 224, 288 and 384 pixels
_SHOWN_SECONDS = 0.05  # shorter times are printed as 0.0


def main() -> None:
    """Measure five runs and some calls of `--help`, and print the figures."""
    parser = common.parser(__doc__)
    parser.add_argument("--images", type=int, help="photographs (default: all of cats_dogs)")
    parser.add_argument("--added", type=int, default=12, help="photographs added in the last run")
    options = parser.parse_args()
    cats = common.data_set(options.data, "cats_dogs")
    print(f"machine: {common.machine()}")
    with common.workplace(options.work) as work:
        photographs = common.sample(cats, options.images)
        new = common.subset(photographs, options.added)
        old = sorted(set(photographs) - set(new))
        every = common.copy(photographs, work / "photographs")
        runs = {}
        for name in ("first run", *_REPETITIONS):
            runs[name] = _run(name, every, work / "first")
        grown = common.copy(old, work / "growing")
        before = _run("all but those added", grown, work / "second")
        common.copy(new, grown)
        added = _run(f"{options.added} photographs added", grown, work / "second")
    _check(before, added, new)
    common.finish(
        [
            *_first_figures(runs["first run"], len(photographs)),
            *_again_figures(runs),
            *_added_figures(before, added, options.added),
            _peak_figure([*runs.values(), before, added]),
            Figure("`imgpipe --help`", f"{_help_seconds():.2f} s (median of {_HELP_ROUNDS})"),
        ],
    )


def _run(name: str, data: Path, out: Path) -> Finished:
    """Measure one run and print it at once, because all of them take minutes."""
    run = common.run_imgpipe(data, out)
    timings = run.summary["timings"]
    cached = run.summary["cached"]
    print(
        f"{name}: {run.seconds:.1f} s, imports {timings['import_s']:.1f}, idle {_idle(run):.1f}, "
        f"peak {run.peak_mib:.0f} MiB, {run.forward_passes} forward passes, "
        f"{_cached(run)}"
    )
    parts = [
        f"{component} {'=' if component in cached else ''}{seconds:.1f}"
        for component, seconds in timings["components"].items()
    ]
    print("    " + ", ".join(parts), flush=True)
    return run


def _cached(run: Finished) -> str:
    """Return how much was taken from the cache; an outcome that is repeated starts no component."""
    components = run.summary["timings"]["components"]
    cached = run.summary["cached"]
    if not components:
        return "the outcome of an earlier run"
    return f"{len(cached)} of {len({*cached, *components})} components cached"


def _components(run: Finished) -> float:
    return sum(run.summary["timings"]["components"].values())


def _idle(run: Finished) -> float:
    """Return the seconds outside of imports and components: start, plan, summary and exit."""
    return run.seconds - run.summary["timings"]["import_s"] - _components(run)


def _check(before: Finished, added: Finished, new: list[Path]) -> None:
    size, size_before = (run.summary["image_size"] for run in (added, before))
    if size != size_before:  # validation and test have no features of the other size
        print(f"images of {size} pixels are taken instead of {size_before}")
        return
    most = _SIZES * len(new)
    if added.forward_passes > most:
        sys.exit(
            f"adding {len(new)} photographs: expected at most {most} forward passes, one for each "
            f"of them and each size of images. Received: {added.forward_passes}"
        )


def _help_seconds() -> float:
    seconds = []
    for _ in range(_HELP_ROUNDS + 1):  # the first call fills the page cache
        started = time.perf_counter()
        subprocess.run(common.imgpipe("--help"), check=True, capture_output=True, timeout=60)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def _first_figures(run: Finished, photographs: int) -> list[Figure]:
    timings = run.summary["timings"]
    slowest = sorted(timings["components"].items(), key=lambda part: -part[1])
    slowest = [(name, seconds) for name, seconds in slowest if seconds >= _SHOWN_SECONDS]
    return [
        Figure(f"whole run on {photographs:,} photographs", f"{run.seconds:.1f} s"),
        Figure("… of which imports", f"{timings['import_s']:.1f} s"),
        Figure(
            "… of which components",
            f"{_components(run):.1f} s: {', '.join(f'{n} {s:.1f}' for n, s in slowest)}",
        ),
        Figure("… of which idle (total − imports − components)", f"{_idle(run):.1f} s"),
        Figure(
            "… forward passes",
            f"{run.forward_passes:,}, "
            f"{timings['components']['FeatureBank'] / run.forward_passes * 1e3:.1f} ms each",
        ),
    ]


def _again_figures(runs: dict[str, Finished]) -> list[Figure]:
    figures = []
    for name in _REPETITIONS:
        run = runs[name]
        timings = run.summary["timings"]
        value = (
            f"{run.seconds:.1f} s (imports {timings['import_s']:.1f}); "
            f"{_cached(run)}, {run.forward_passes} forward passes"
        )
        figures.append(Figure(name, value))
    return figures


def _added_figures(before: Finished, added: Finished, count: int) -> list[Figure]:
    """Return the time and its part that does not depend on the number of forward passes.

    The time of a pass follows from the difference between the banks of two runs.
    """
    banks = [run.summary["timings"]["components"]["FeatureBank"] for run in (before, added)]
    pass_seconds = (banks[0] - banks[1]) / (before.forward_passes - added.forward_passes)
    fixed = added.seconds - added.forward_passes * pass_seconds
    return [
        Figure(
            f"re-run with {count} photographs added",
            f"{added.seconds:.1f} s, {added.forward_passes} forward passes",
        ),
        Figure("… of which fixed cost (all but the forward passes)", f"{fixed:.1f} s"),
    ]


def _peak_figure(runs: list[Finished]) -> Figure:
    peaks = ", ".join(f"{run.peak_mib:.0f}" for run in runs)
    peak = max(run.peak_mib for run in runs)
    return Figure("peak resident memory of the process tree", f"{peak:.0f} MiB (by run: {peaks})")


if __name__ == "__main__":
    main()
