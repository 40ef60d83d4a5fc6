"""Time and memory of a whole run, its bank and its fine-tuning, against the number of photographs.

    python -m benchmarks.growth --counts 1000 25000

Soft random pictures of 160 × 120 pixels, every one another and of two kinds (warm and cold), are
drawn once; the first 1,000 … of them go through ``imgpipe run``, each set in a process of its own:
judge, bank with activations at the cut, head, layers above the cut, evaluation, export, push. Times
are of the clock, by component; memory is the peak of the process tree.
"""

from __future__ import annotations

from benchmarks import common, scale
from benchmarks.common import Figure, Finished

_NODES = (
    "ImageExampleGen",
    "ImageFilter",
    "FeatureBank",
    "ImageTrainer",
    "ImageEvaluator",
    "Predictor",
)


def main() -> None:
    """Draw, run the first of each count, print cost and memory."""
    parser = common.parser(__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 25_000])
    parser.add_argument("--cut", default="block11")
    parser.add_argument("--size", type=int, default=128, help="pixels that the backbone sees")
    parser.add_argument("--views", type=int, default=1, help="in the bank, beside the clean one")
    parser.add_argument("--epochs", type=int, default=2, help="of fine-tuning")
    options = parser.parse_args()
    settings = (
        f"model.image_size={options.size}",
        f"views.count={options.views}",
        "train.epochs=10",
        "fine_tune.mode=on",
        f"fine_tune.cut={options.cut}",
        f"fine_tune.epochs={options.epochs}",
        "evaluate.threshold=0",
    )
    print(f"machine: {common.machine()}")
    runs: dict[int, Finished] = {}
    with common.workplace(options.work) as work:
        folder, drawn = work / "photographs", 0
        for label in scale.LABELS:
            (folder / label).mkdir(parents=True)
        for count in sorted(options.counts):
            scale.draw_up_to(folder, drawn, count)
            drawn = count
            runs[count] = common.run_imgpipe(folder, work / f"out{count}", settings)
            print(f"{count:,}: {_cost(runs[count], count)}", flush=True)
    figures = [Figure(f"{count:,} photographs", _cost(run, count)) for count, run in runs.items()]
    common.finish([*figures, *_growth(runs)], options.json)


def _cost(run: Finished, count: int) -> str:
    """Seconds and milliseconds a photograph of what grows, and the peak."""
    times = run.summary["timings"]["components"]
    nodes = ", ".join(f"{name} {times[name] / count * 1e3:.1f}" for name in _NODES)
    tuned = run.summary["training"]["fine_tune"]["seconds"]
    return (
        f"{run.seconds:.0f} s, peak {run.peak_mib:.0f} MiB; ms a photograph: {nodes}, "
        f"of it fine-tuning {tuned / count * 1e3:.1f}"
    )


def _growth(runs: dict[int, Finished]) -> list[Figure]:
    """What a photograph of the largest set costs against one of the smallest."""
    fewest, most = min(runs), max(runs)
    if fewest == most:
        return []
    small, large = runs[fewest], runs[most]

    def each(run: Finished, count: int, name: str) -> float:
        if name == "fine-tuning":
            return float(run.summary["training"]["fine_tune"]["seconds"]) / count
        return float(run.summary["timings"]["components"][name]) / count

    costs = ", ".join(
        f"{name} {each(large, most, name) / each(small, fewest, name):.2f} ×"
        for name in ("FeatureBank", "fine-tuning")
    )
    return [
        Figure(f"a photograph among {most:,} against one among {fewest:,}", costs),
        Figure("… peak memory", f"{large.peak_mib / small.peak_mib:.2f} ×"),
    ]


if __name__ == "__main__":
    main()
