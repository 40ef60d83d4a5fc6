"""Accuracy of what real runs push, on photographs the model has not seen.

    python -m benchmarks.accuracy

Each figure is a whole ``imgpipe run`` with the default configuration and is read from its summary,
so it is TFMA's, on the served signature. The split seeds are for this figure alone: no setting
was ever chosen by them. They share one feature store, so each run computes only what none before
it has; horses_or_humans keeps the split of its own folders.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks import common
from benchmarks.common import Figure, Finished

SEEDS = range(5)
GOAL_TEST, GOAL_HORSES = 0.985, 1.0


def main() -> None:
    """Run all of them, one after the other."""
    parser = common.parser(__doc__)
    parser.add_argument("--images", type=int, help="of each set, for a quick look (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    options = parser.parse_args()
    cats = common.data_set(options.data, "cats_dogs")
    horses = common.data_set(options.data, "horses_or_humans")
    print(f"machine: {common.machine()}")
    with common.workplace(options.work) as work:
        store = f"bank.store={work / 'store'}"
        if options.images:
            cats = common.copy(common.sample(cats, options.images), work / "cats_dogs")
            horses = _few(horses, options.images, work / "horses_or_humans")
        runs = {}
        for seed in options.seeds:
            settings = (store, f"split.seed={seed}")
            runs[seed] = common.run_imgpipe(cats, work / f"cats{seed}", settings)
            _say(f"cats_dogs, split seed {seed}", runs[seed], ("validation", "test"))
        own = common.run_imgpipe(horses, work / "horses", (store,))
        _say("horses_or_humans, own folders", own, ("validation",))
    common.finish([*_cats_figures(runs), _horses_figure(own)], options.json)


def _few(folder: Path, count: int, target: Path) -> Path:
    """`count` photographs of each of the folder's own splits."""
    for split in ("train", "validation"):
        common.copy(common.sample(folder / split, count), target / split)
    return target


def _images(run: Finished, split: str) -> int:
    return sum(run.summary["data"]["splits"][split].values())


def _say(name: str, run: Finished, splits: tuple[str, ...]) -> None:
    parts = [f"{split} {run.accuracy(split):.4f} of {_images(run, split)}" for split in splits]
    print(
        f"{name}: {', '.join(parts)}; {run.forward_passes} forward passes, {run.seconds:.0f} s, "
        f"{'blessed' if run.summary['blessed'] else 'not blessed'}",
        flush=True,
    )


def _cats_figures(runs: dict[int, Finished]) -> list[Figure]:
    figures = []
    seeds = ", ".join(map(str, runs))
    for split, goal in (("test", f"≥ {GOAL_TEST}"), ("validation", "")):
        values = [run.accuracy(split) for run in runs.values()]
        images = sum(_images(run, split) for run in runs.values())
        value = (
            f"{statistics.mean(values):.4f} ({min(values):.4f} to {max(values):.4f}: "
            f"{', '.join(f'{value:.4f}' for value in values)}; {images} images in all)"
        )
        figures.append(Figure(f"cats_dogs: {split} accuracy, split seeds {seeds}", value, goal))
    return figures


def _horses_figure(run: Finished) -> Figure:
    value = f"{run.accuracy('validation'):.4f} ({_images(run, 'validation')} images)"
    return Figure("horses_or_humans: validation accuracy", value, f"{GOAL_HORSES:.3f}")


if __name__ == "__main__":
    main()
