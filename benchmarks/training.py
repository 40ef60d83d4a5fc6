"""Accuracy of training on every reference set, with the settings recommended for it.

    python -m benchmarks.training [--sets SET …] [--seeds N] [--minutes M]

The settings are configurations of `imgpipe run`, `benchmarks/recipes/SET.toml`, which were
chosen on validation. A figure is the mean over whole runs with different seeds, from their
summaries: the accuracy of the served signature on test, for which no setting was chosen. As
horses_or_humans has no test split, it is what decided there, the accuracy over the folds.
Sets that end in "_defaults" have the default configuration and vary the seed of the split only.
"few" is the accuracy with 10, 25, 50 and 100 images of each class, a fifth of them in validation,
on other images.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import common
from benchmarks.common import Figure, Finished
from imgpipe.models.training.history import describe_tried

RECIPES = Path(__file__).resolve().parent / "recipes"
FEW = "few"
FEW_SETS = ("cats_dogs", "sign_digits")  # only the first set resembles ImageNet
FEW_SIZES = (10, 25, 50, 100)
FEW_TESTED = 60  # images of each class, as many as the smaller set has left


@dataclass(frozen=True)
class Task:
    """A set of images and the goal for it.

    Attributes:
        folder: Folder below the reference data.
        goal: Smallest mean accuracy; 0 for no goal.
        seeds: Number of runs, whose seeds begin at 0.
        measured: What is measured; see `Finished.accuracy`.
    """

    folder: str
    goal: float = 0.0
    seeds: int = 3
    measured: str = "test"


_DEFAULTS = "_defaults"  # end of the names of sets with the default configuration
TASKS = {
    f"cats_dogs{_DEFAULTS}": Task("cats_dogs", 0.985, 5),
    f"horses_or_humans{_DEFAULTS}": Task("horses_or_humans", 0.999, 1, "decided"),
    f"sign_digits{_DEFAULTS}": Task("sign_digits", 0.99),
    f"flowers_128{_DEFAULTS}": Task("flowers_128", 0.85),
    f"rps_cgi_28{_DEFAULTS}": Task("rps_cgi_28", 0.97),
    f"rps_photos{_DEFAULTS}": Task("rps_photos/training", 0.94),
    "horses_or_humans": Task("horses_or_humans", 0.999, 1, "decided"),
    "cats_dogs": Task("cats_dogs", 0.99, 5),
    "rps_photos": Task("rps_photos/training", 0.93),
    "rps_cgi_28": Task("rps_cgi_28", 0.97),
    "rps_cgi_28_transfer": Task("rps_cgi_28"),
    "sign_digits": Task("sign_digits", 0.99),
    "flowers_128": Task("flowers_128"),
}


def main() -> None:
    """Measure the chosen sets and print the figures."""
    parser = common.parser(__doc__)
    names = (*TASKS, FEW)
    parser.add_argument("--sets", nargs="+", choices=names, default=names, metavar="SET")
    parser.add_argument("--seeds", type=int, metavar="N", help="runs of each set")
    parser.add_argument("--minutes", type=float, help="minutes of the search of each run")
    parser.add_argument("--images", type=int, help="images of each set (default: all)")
    options = parser.parse_args()
    folders = {
        name: common.data_set(options.data, task.folder)
        for name, task in TASKS.items()
        if name in options.sets or FEW in options.sets
    }
    print(f"machine: {common.machine()}")
    figures: list[Figure] = []
    with common.workplace(options.work) as work:
        for name in options.sets:
            if name == FEW:
                figures += few(folders, options.seeds or 3, work)
                continue
            data = folders[name]
            if options.images:
                data = _sample(data, options.images, work / "images" / name)
            seeds = options.seeds or TASKS[name].seeds
            figures.append(measure(name, data, seeds, work, options.minutes))
    common.finish(figures)


def measure(name: str, data: Path, seeds: int, work: Path, minutes: float | None = None) -> Figure:
    """Measure the accuracy of one recipe over the seeds."""
    task = TASKS[name]
    values = []
    images = 0
    seconds = 0.0
    computed = 0.0
    for seed in range(seeds):
        run = _run(name, data, work / f"{name}{seed}", work, seed, minutes)
        values.append(run.accuracy(task.measured))
        images += run.images(task.measured)
        seconds += run.seconds
        computed += _computed(run)
        _say(f"{name}, seed {seed}", run, task.measured)
    what = f"{name}: {task.measured} accuracy, {RECIPES.name}/{name}.toml"
    value = (
        f"{_spread(values)}; {images} images in all; {seconds / seeds:.0f} s a run, of which bank "
        f"and training {computed / seeds:.0f} s"
    )
    return Figure(what, value, f"≥ {task.goal:g}" if task.goal else "")


def _computed(run: Finished) -> float:
    """Return the seconds of FeatureBank and ImageTrainer."""
    times = run.summary["timings"]["components"]
    return float(times["FeatureBank"] + times["ImageTrainer"])


def few(folders: dict[str, Path], draws: int, work: Path) -> Iterator[Figure]:
    """Measure the accuracy with few images of each class and the default configuration."""
    for name in FEW_SETS:
        for size in FEW_SIZES:
            values = []
            for draw in range(draws):
                place = work / f"{FEW}-{name}-{size}-{draw}"
                data = draw_subset(folders[name], size, draw, place / "images")
                run = _run(FEW, data, place / "out", work, draw)
                values.append(run.accuracy("test"))
                _say(f"{name}, {size} of each class, draw {draw}", run, "test")
            yield Figure(f"{name}: test accuracy with {size} images of each class", _spread(values))


def _run(
    recipe: str, data: Path, out: Path, work: Path, seed: int, minutes: float | None = None
) -> Finished:
    """Run a recipe; all runs share one store of features."""
    settings = [f"bank.store={work / 'store'}", f"split.seed={seed}"]
    if minutes is not None:
        settings.append(f"train.minutes={minutes}")
    if not recipe.endswith(_DEFAULTS):
        settings.append(f"train.seed={seed}")
    return common.run_imgpipe(data, out, settings, RECIPES / f"{recipe}.toml")


def draw_subset(folder: Path, size: int, seed: int, target: Path) -> Path:
    """Draw `size` images of each class for train and validation, and others for test."""
    held = max(2, size // 5)
    for label in sorted(path for path in folder.iterdir() if path.is_dir()):
        images = sorted(path for path in label.iterdir() if path.is_file())
        random.Random(f"{seed} {label.name}").shuffle(images)
        common.copy(images[:held], target / "validation")
        common.copy(images[held:size], target / "train")
        common.copy(images[size : size + FEW_TESTED], target / "test")
    return target


def _sample(folder: Path, count: int, target: Path) -> Path:
    """Copy `count` images of a folder, or of each split in it."""
    splits = [name for name in ("train", "validation", "test") if (folder / name).is_dir()]
    for name in splits or ("",):
        common.copy(common.sample(folder / name, count), target / name)
    return target


def _say(name: str, run: Finished, what: str) -> None:
    """Print the result of one run."""
    said = [
        f"{measured} {run.accuracy(measured):.4f}" for measured in dict.fromkeys(("decided", what))
    ]
    training = run.summary.get("training") or {}
    tuned = training.get("fine_tune") or {}
    for row in training.get("search") or []:
        print(f"  tried {describe_tried(row)}")
    if ended := (training.get("search_ended") or {}).get("sentence"):
        print(f"  {ended}")
    if metrics := run.summary["metrics"].get(what):
        by_chance = f"{metrics['ece_by_chance']:.4f} by chance"
        said.append(f"expected calibration error {metrics['ece']:.4f} ({by_chance})")
    solution = training.get("solution")
    if solution and solution["accuracy"] is not None:
        chosen = f"{training['features']} at {run.summary['image_size']} pixels"
        said.append(f"folds of a head {solution['accuracy']:.4f} ({chosen})")
    if tuned:
        said.append(f"head alone {tuned['head_accuracy']:.4f} of held-out images")
    blessed = "blessed" if run.summary["status"] == "blessed" else "not blessed"
    print(f"{name}: {', '.join(said)}; {run.seconds:.0f} s, {blessed}", flush=True)


def _spread(values: Sequence[float]) -> str:
    """Format the mean, the range and the standard error of the mean."""
    mean = f"{statistics.mean(values):.4f}"
    if len(values) < 2:
        return f"{mean} (one run)"
    error = statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean} ({min(values):.4f} to {max(values):.4f}; standard error {error:.4f})"


if __name__ == "__main__":
    main()
