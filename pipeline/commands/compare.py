"""`imgpipe compare`: shows what differs between two runs and between their models."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import escape, new_console

if TYPE_CHECKING:
    from rich.console import Console

    from imgpipe.models.head.certainty import PairedAnswers
    from imgpipe.pipeline.output.past_run import PastRun
    from imgpipe.pipeline.output.run_history import Change, Disagreement, RunComparison

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
    json_file: options.JsonListOption = None,
) -> None:
    """Compare two runs: configuration, data, metrics, and images that only one gets right."""
    from imgpipe.pipeline.command_line import console as consoles
    from imgpipe.pipeline.output import run_history

    a, b = _chosen(first, second)
    with consoles.quiet():  # without the messages that TensorFlow prints
        compared = run_history.compare(a, b)
    output_files.write_json(compared, json_file)
    if json_file != output_files.STANDARD_OUTPUT:
        _print(compared)


def _chosen(first: Path, second: Path | None) -> tuple[PastRun, PastRun]:
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


def _print(compared: RunComparison) -> None:
    console = new_console()
    for letter, run in (("A", compared["a"]), ("B", compared["b"])):
        version = "" if run["version"] is None else f", version {run['version']}"
        console.print(f"[bold]{letter}[/]  {escape(run['folder'])}{version}")
        console.print(f"   {escape(run['verdict'] or run['status'], lines=True)}")
    sections = (
        ("Configuration", compared["configuration"]),
        ("Data", compared["data"]),
        ("Features and training", compared["choices"]),
    )
    for heading, changes in sections:
        console.print(f"\n[bold]{heading}[/]")
        for change in changes:
            console.print(escape(f"  {described(change)}"))
        if not changes:
            console.print("  no difference")
    console.print("\n[bold]Metrics[/]")
    for split, metrics in compared["metrics"].items():
        for name, pair in metrics.items():
            values = f"{_value(pair['a'])} → {_value(pair['b'])}"
            console.print(f"  {split} {_METRICS.get(name, name)}: {values}")
    for split, answers in compared["paired"].items():
        console.print(f"  {escape(_paired(split, answers))}")
    if compared["paired_missing"]:
        console.print(f"  The images cannot be compared: {escape(compared['paired_missing'])}.")
    _print_images(console, compared["only_a"], "A", "B")
    _print_images(console, compared["only_b"], "B", "A")


def _print_images(console: Console, images: list[Disagreement], right: str, wrong: str) -> None:
    """Print the first images that only one of the models, A or B, predicts correctly."""
    from imgpipe.components.common.formatting import plural

    if images:
        console.print(f"\n[bold]Only {right} is right[/]: {plural(len(images), 'image')}")
    for image in images[:_SHOWN]:
        predicted = f"{wrong} predicted {image['predicted']} ({image['split']})"
        line = f"{image['path']}: {image['label']}; {predicted}"
        console.print(f"  {escape(line)}")
    if len(images) > _SHOWN:
        console.print(f"  and {len(images) - _SHOWN:,} more; --json FILE lists all of them")


def described(change: Change) -> str:
    """Return a difference between two runs as a line."""
    from imgpipe.pipeline.output.run_history import IMAGE_SIZE

    before = change["before"]
    after = change["after"]
    line = f"{change['name']}: {_value(before)} → {_value(after)}"
    if change["name"] == IMAGE_SIZE and before and after:
        line += f" (the network computes {(after / before) ** 2:.1f} times as much in each request)"
    return line


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
