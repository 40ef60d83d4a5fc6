"""Processor time and memory of ImageEvaluator and of the report by the number of classes.

    python -m benchmarks.classes --counts 1000 5000 --answers 10000

Synthetic answers are stored as Predictor stores them, half of them in validation and half in test.
Nine in ten are right. Each measurement is a process of its own. It is also made with 101 classes:
that is the cost which hardly depends on the number of classes, such as the start of the program,
and it is subtracted before the last figure compares what the classes cost. The goal: it grows no
faster than the classes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common, synthetic
from benchmarks.common import Ended, Figure

_FEW = 101  # the fewest for which ImageEvaluator computes what it does for many
_RIGHT = 0.9  # share of right answers
_GOAL = 1.2  # growth of the cost by that of the classes; 1 is linear


def write_answers(folder: Path, classes: int, count: int) -> None:
    """Write predictions as Predictor stores them."""
    from imgpipe.components.predictor import prediction
    from imgpipe.components.storage import records
    from imgpipe.models import feature_names as names

    random = np.random.default_rng(0)
    paths = {split: records.shard_path(str(folder), split, 0, 1) for split in names.SPLITS}
    with records.ShardWriter(paths) as writer:
        for number in range(count):
            split = (names.VALIDATION, names.TEST)[number % 2]
            label = number // 2 % classes
            row = random.random(classes, np.float32)
            right = random.random() < _RIGHT
            row[label if right else random.integers(classes)] = classes
            given: dict[str, records.Value] = {
                names.IMAGE_HASH: synthetic.content_hash(number),
                names.PATH: f"{label}/{number:08d}.jpg",
                names.SPLIT: split,
                names.LABEL: str(label),
                names.LABEL_INDEX: label,
                **prediction.features(row / row.sum(), label),
            }
            writer.write(split, records.make(given))


def _artifact(kind: Any, path: Path) -> Any:
    made = kind()
    made.uri = str(path)
    return made


def evaluator(folder: Path, classes: int) -> None:
    """Run ImageEvaluator on the answers."""
    from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
    from tfx.types import standard_artifacts as kinds
    from tfx.utils import json_utils

    from imgpipe.components.beam import beam_io
    from imgpipe.components.image_evaluator import component
    from imgpipe.models import feature_names as names

    answers = _artifact(kinds.Examples, folder / "answers")
    beam_io.mark_examples(answers)
    inputs = {
        "examples": [answers],
        "model": [_artifact(kinds.Model, folder / "model")],
        "baseline_model": [_artifact(kinds.Model, folder / "baseline")],
    }
    outputs = {
        "evaluation": [_artifact(kinds.ModelEvaluation, folder / "evaluation")],
        "blessing": [_artifact(kinds.ModelBlessing, folder / "blessing")],
    }
    arguments = ["--runner=FnApiRunner", "--sdk_container_image=none"]  # as the pipeline's default
    context = BaseBeamExecutor.Context(arguments, str(folder / "tmp"), "1")
    splits = json_utils.dumps([names.VALIDATION, names.TEST])
    config = json.dumps(component.eval_config(0.5, 0.05, classes))
    properties = {"eval_config": config, "example_splits": splits}
    component.Executor(context).Do(inputs, outputs, properties)


def report(folder: Path, classes: int) -> None:
    """Collect the facts of the report from the answers and the evaluation, and draw the page."""
    from imgpipe.components.report import component, facts, verdict

    uris = {
        "predictions": str(folder / "answers"),
        "evaluation": str(folder / "evaluation"),
        "model_blessing": str(folder / "blessing"),
    }
    width = len(str(classes))
    settings = {
        "name": "synthetic",
        "source": "synthetic",
        "vocabulary": [f"{label:0{width}}" for label in range(classes)],
        "threshold": 0.5,
        "max_drop": 0.05,
    }
    found = facts.collect(uris, settings)
    assert found["gate"]["blessed"]
    component.draw(found, uris, [str(folder / "page")], verdict.state(found))


PARTS = {"evaluator": evaluator, "report": report}


def measure(work: Path, classes: int, count: int) -> dict[str, Ended]:
    """Measure each part in a process of its own."""
    folder = work / str(classes)
    folder.mkdir()
    write_answers(folder / "answers", classes, count)
    ends = {}
    for name in PARTS:
        command = [sys.executable, "-m", "benchmarks.classes", "--one", name]
        command += [str(folder), str(classes)]
        ends[name] = common.measured(command, folder / f"{name}.txt", (0,))
    return ends


def figures(ends: dict[int, dict[str, Ended]]) -> list[Figure]:
    """Return the cost of each part, and how it grows from the second last count to the last."""
    few, *rest, small, large = sorted(ends)
    found = []
    for name in PARTS:
        for classes in (few, *rest, small, large):
            ended = ends[classes][name]
            value = f"{ended.processor:.1f} s of processor time, peak {ended.peak_mib:.0f} MiB"
            found.append(Figure(f"{name}, {classes:,} classes", value))
        cost = {n: ends[n][name].processor - ends[few][name].processor for n in (small, large)}
        if cost[small] > 0:
            growth = cost[large] / cost[small] / (large / small)
            what = f"{name}: growth of the cost by that of the classes, {small:,} to {large:,}"
            found.append(Figure(what, f"{growth:.2f}", f"at most {_GOAL}"))
    return found


def main() -> None:
    """Write the answers, measure each number of classes and print the figures."""
    parser = common.parser(__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 5_000])
    parser.add_argument("--answers", type=int, default=10_000)
    options = parser.parse_args()
    if len(options.counts) < 2 or min(options.counts) <= _FEW:
        parser.error(f"--counts needs two numbers of classes or more, each above {_FEW}")
    print(f"machine: {common.machine()}")
    ends: dict[int, dict[str, Ended]] = {}
    with common.workplace(options.work) as work:
        for classes in (_FEW, *sorted(options.counts)):
            ends[classes] = measure(work, classes, options.answers)
            said = ", ".join(f"{name} {e.processor:.1f} s" for name, e in ends[classes].items())
            print(f"{classes:,} classes: {said}", flush=True)
    common.finish(figures(ends))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        name, folder, classes = sys.argv[2:]
        sys.argv = sys.argv[:1]  # TFX's Beam executors parse the arguments of the program
        PARTS[name](Path(folder), int(classes))
    else:
        main()
