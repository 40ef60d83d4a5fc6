"""``imgpipe compare``: shows what differs between two runs and between their models."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import escape, new_console

if TYPE_CHECKING:
    from rich.console import Console

    from imgpipe.pipeline.output.past_runs import PastRun

app = typer.Typer()

_SHOWN = 10  # images that are listed of each kind; all are in the JSON
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
    from imgpipe.pipeline.output import run_comparison

    a, b = _chosen(first, second)
    with consoles.quiet():  # without the messages that TensorFlow prints
        compared = run_comparison.compare(a, b).dump()
    output_files.write_json(compared, json_file)
    if json_file != output_files.STANDARD_OUTPUT:
        _print(compared)


def _chosen(first: Path, second: Path | None) -> tuple[PastRun, PastRun]:
    from imgpipe.pipeline.output import past_runs, places

    last = places.run(second or first)
    if second is not None:
        return places.run(first), last
    before = itertools.takewhile(lambda run: run.folder != last.folder, past_runs.read(last.out))
    judged = [run for run in before if run.accuracy is not None]
    if not judged:
        raise ResourceError(
            f"no run in {last.out} evaluated a model before {last.name}. Run again, or name the "
            "folders of two runs: imgpipe compare A B"
        )
    return judged[-1], last


def _print(compared: Mapping[str, Any]) -> None:
    from imgpipe.components.report.text import metric

    console = new_console()
    for letter in ("a", "b"):
        one = compared[letter]
        version = f", version {one['version']}" if one["version"] is not None else ""
        folder = escape(one["folder"])
        console.print(f"[bold]{letter.upper()}[/]  {folder}{version}")
        console.print(f"   {escape(one['verdict'] or one['status'], lines=True)}")
    _print_changes(console, "Configuration", compared["configuration"])
    _print_changes(console, "Data", compared["data"])
    console.print("\n[bold]Metrics[/]")
    for split, metrics in compared["metrics"].items():
        for name, pair in metrics.items():
            values = f"{_number(pair['a'])} → {_number(pair['b'])}"
            console.print(f"  {split} {metric(name)}: {values}")
    for split, pair in compared["paired"].items():
        console.print(f"  {escape(_paired(split, pair))}")
    if compared["paired_missing"]:
        console.print(f"  The images cannot be compared: {escape(compared['paired_missing'])}.")
    for key, who, other in (("only_a", "A", "B"), ("only_b", "B", "A")):
        _print_images(console, compared[key], who, other)


def _print_changes(console: Console, heading: str, changes: Sequence[Mapping[str, Any]]) -> None:
    console.print(f"\n[bold]{heading}[/]")
    for change in changes:
        before, after = _value(change["before"]), _value(change["after"])
        console.print(escape(f"  {change['name']}: {before} → {after}"))
    if not changes:
        console.print("  no difference")


def _value(value: Any) -> str:
    return "none" if value is None else str(value) or "empty"


def _print_images(
    console: Console, rows: Sequence[Mapping[str, Any]], who: str, other: str
) -> None:
    from imgpipe.components.report.text import plural

    if not rows:
        return
    console.print(f"\n[bold]Only {who} is right[/]: {plural(len(rows), 'image')}")
    for row in rows[:_SHOWN]:
        said = f"{row['label']}; {other} predicted {row['predicted']} ({row['split']})"
        console.print(f"  {escape(row['path'])}: {escape(said)}")
    if len(rows) > _SHOWN:
        console.print(f"  and {len(rows) - _SHOWN:,} more; --json FILE lists all of them")


def _paired(split: str, pair: Mapping[str, Any]) -> str:
    """Describe the difference of two accuracies on the same images in a sentence."""
    # An interval that includes 0 leaves open which of the models is better.
    low, high = pair["ci95"]
    if low > 0:
        meaning = "B is better"
    elif high < 0:
        meaning = "A is better"
    else:
        meaning = "the difference may be chance"
    return (
        f"On the {pair['images']:,} images of {split} that both classified: accuracy "
        f"{pair['a']:.3f} → {pair['b']:.3f}, difference {pair['difference']:+.3f} "
        f"(95 % interval {low:+.3f} to {high:+.3f}, McNemar's p = {pair['p_value']:.2g}): "
        f"{meaning}."
    )


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
