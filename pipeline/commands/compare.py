"""`imgpipe compare`: shows what differs between two runs and between their models."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.command_line import options

if TYPE_CHECKING:
    from imgpipe.components.report.blocks import ResultBlock
    from imgpipe.models.head.certainty import PairedAnswers
    from imgpipe.pipeline.output.run import Run
    from imgpipe.pipeline.output.run_history import Change, RunComparison

app = typer.Typer()

_SHOWN = 10  # images that are listed of each kind; all are in the JSON
_METRICS = {"ece": "expected calibration error", "loss": "log loss"}
_EXAMPLES = """Examples:\n
  imgpipe compare imgpipe-out\n
  imgpipe compare imgpipe-out/model/1 imgpipe-out/model/2\n
  imgpipe compare imgpipe-out/runs/20260131-140559 other-out --json -
"""


@app.command("compare", rich_help_panel=options.RUNS, epilog=_EXAMPLES)
def command(
    first: Annotated[
        Path,
        typer.Argument(
            metavar="A",
            help="Folder of a run, a version, or an output folder for its newest evaluated run.",
        ),
    ] = Path("imgpipe-out"),
    second: Annotated[
        Path | None,
        typer.Argument(
            metavar="B",
            help="The run to compare with A. Without B, the run that was named is B, and A is the "
            "previous evaluated run.",
        ),
    ] = None,
    json_file: options.JsonOption = None,
) -> None:
    """Compare two runs: configuration, data, metrics, and images that only one gets right."""
    from imgpipe.pipeline.command_line import console as consoles
    from imgpipe.pipeline.command_line.printing import show_result
    from imgpipe.pipeline.output import run_history

    a, b = _chosen(first, second)
    with consoles.quiet():  # without the messages that TensorFlow prints
        compared = run_history.compare(a, b)
    show_result(_blocks(a, b, compared), compared, json_file)


def _chosen(first: Path, second: Path | None) -> tuple[Run, Run]:
    from imgpipe.pipeline.output import lookup
    from imgpipe.pipeline.output.output_folder import OutputFolder

    last = lookup.run(second or first)
    if second is not None:
        return lookup.run(first), last
    runs = OutputFolder(last.out).runs
    before = itertools.takewhile(lambda run: run.folder != last.folder, runs)
    decided_runs = [run for run in before if run.decided_by is not None]
    if not decided_runs:
        raise ResourceError(
            f"no run in {last.out} evaluated a model before {last.name}. Run again, or name the "
            "folders of two runs: imgpipe compare A B"
        )
    return decided_runs[-1], last


def _blocks(a: Run, b: Run, compared: RunComparison) -> Iterator[ResultBlock]:
    """Yield what differs, and the first images that only one of the models predicts correctly."""
    from imgpipe.components.common.formatting import plural
    from imgpipe.components.data_gate.changes import sentence
    from imgpipe.components.report.blocks import Heading, Listed, Sentence, Span

    for letter, run in (("A", a), ("B", b)):
        version = "" if run.version is None else f", version {run.version}"
        yield Sentence((Span(letter, "strong"), f"  {run.folder}{version}"))
        for line in (run.verdict or run.status).splitlines():
            yield Sentence(f"   {line}")
    for heading, changes in (
        ("Configuration", compared["configuration"]),
        ("Data", compared["data"]),
        ("Features and training", compared["choices"]),
    ):
        yield Heading(heading)
        yield Listed([_described(change) for change in changes] or ["no difference"])
        if heading == "Data" and compared["images"] is not None:
            yield Listed([f"images: {sentence(compared['images']) or 'the same'}"])
    yield Heading("Metrics")
    yield Listed(
        [
            f"{split} {_METRICS.get(name, name)}: {_value(pair['a'])} → {_value(pair['b'])}"
            for split, metrics in compared["metrics"].items()
            for name, pair in metrics.items()
        ]
    )
    yield Listed([_paired(split, answers) for split, answers in compared["paired"].items()])
    if compared["paired_missing"]:
        yield Listed([f"The images cannot be compared: {compared['paired_missing']}."])
    for right, wrong, images in (("A", "B", compared["only_a"]), ("B", "A", compared["only_b"])):
        if images:
            yield Heading(f"Only {right} is right: {plural(len(images), 'image')}")
        yield Listed(
            [
                f"{image['path']}: {image['label']}; {wrong} predicted {image['predicted']} "
                f"({image['split']})"
                for image in images[:_SHOWN]
            ]
        )
        if len(images) > _SHOWN:
            yield Listed([f"and {len(images) - _SHOWN:,} more; --json FILE lists all of them"])


def _described(change: Change) -> str:
    """Return a difference between two runs as a line."""
    return f"{change['name']}: {_value(change['before'])} → {_value(change['after'])}"


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value is None else str(value) or "empty"


def _paired(split: str, pair: PairedAnswers) -> str:
    """Describe the difference of two accuracies on the same images in a sentence."""
    from imgpipe.models.head.certainty import CHANCE

    low, high = pair["ci95"]
    right_a = pair["both"] + pair["only_a"]
    right_b = pair["both"] + pair["only_b"]
    meaning = "the difference may be chance"
    if pair["p_value"] < CHANCE:
        meaning = f"{'B' if pair['difference'] > 0 else 'A'} is better"
    elif right_a == right_b:
        meaning = "no difference"
    return (
        f"Of the {pair['images']:,} images of {split} that both classified, A is right for "
        f"{right_a:,} and B for {right_b:,}: {meaning} (95 % interval of the difference "
        f"{low:+.2f} to {high:+.2f}, p = {pair['p_value']:.2g})."
    )
