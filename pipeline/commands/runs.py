"""`imgpipe runs`: lists the runs of an output folder. It needs no TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import escape, new_console

if TYPE_CHECKING:
    from imgpipe.components.report.blocks import SpanLook, TableCell
    from imgpipe.pipeline.output.run_history import Changes, ListedRun, RunList

app = typer.Typer()

_LOOKS: dict[str, SpanLook] = {
    "blessed": "good",
    "working": "strong",
    "failed": "bad",
    "killed": "bad",
    "damaged": "bad",
}
_WIDE = 100  # columns from which on a terminal shows details
_SHOWN = 3  # changes that are shown of each kind; all are in the JSON
_LONGEST_VALUE = 30
_EXAMPLES = """Examples:\n
  imgpipe runs imgpipe-out\n
  imgpipe runs imgpipe-out --last 5 --json -
"""


@app.command("runs", rich_help_panel=options.RUNS, epilog=_EXAMPLES)
def command(
    out: options.OutArgument = Path("imgpipe-out"),
    last: Annotated[
        int, typer.Option("--last", metavar="N", min=1, help="Number of runs that are listed.")
    ] = 20,
    json_file: options.JsonListOption = None,
) -> None:
    """List the runs of an output folder: verdict, accuracy, data, and what changed."""
    from imgpipe.pipeline.output import lookup
    from imgpipe.pipeline.output.run_history import list_runs

    folder = lookup.output_folder(out)
    runs = folder.runs
    listed = list_runs(folder.path, runs, last)
    output_files.write_json(listed, json_file)
    if json_file != output_files.STANDARD_OUTPUT:
        _print(listed, len(runs))


def _print(listed: RunList, total: int) -> None:
    from imgpipe.components.common.formatting import plural
    from imgpipe.components.report import blocks as show
    from imgpipe.components.report.commands import lines
    from imgpipe.pipeline.command_line.blocks import print_blocks

    console = new_console()
    runs = listed["runs"]
    # On a narrow terminal, details are left out, which `--json` has.
    details = not console.is_terminal or console.width >= _WIDE
    rows = [_cells(run, details) for run in runs]
    columns = ("started", "verdict", "accuracy", "images", "version", "time")
    print_blocks(console, [show.Table("Runs", columns, rows)])
    for run in runs:
        difference = _difference(run["changed"])
        if difference:
            console.print(f"  [dim]{run['started']} changed: {escape(difference)}[/]")
        if run["status"] == "damaged":
            file = escape(f"{run['folder']}/summary.json")
            console.print(f"  [dim]{run['started']}: its summary cannot be read: {file}[/]")
    counted = plural(total, "run") if len(runs) == total else f"{len(runs)} of {total:,} runs"
    console.print(f"{counted} in {escape(listed['out'])}")
    newest = listed["newest_version"]
    if newest and newest["rolled_back_to"] is not None:
        console.print(
            f"version {newest['number']} is the newest, and holds the model of version "
            f"{newest['rolled_back_to']} since a rollback"
        )
    for line in lines(listed["next"]):
        console.print(escape(line))


def _cells(run: ListedRun, details: bool) -> tuple[TableCell, ...]:
    """Return the cells of a run; `details` are the kind of the accuracy and the classes."""
    from imgpipe.components.common.formatting import NONE, plural, seconds, share
    from imgpipe.components.report.blocks import Span

    decided_by = run["decided_by"]
    accuracy = NONE
    if decided_by is not None:
        low, high = decided_by["ci95"]
        kind = f", {decided_by['kind']}" if details else ""
        accuracy = f"{share(decided_by['accuracy'])} ({low:.2f}–{high:.2f}{kind})"
    images = NONE
    if run["images"] is not None:
        classes = f" in {plural(run['classes'] or 0, 'class', 'classes')}" if details else ""
        images = f"{run['images']:,}{classes}"
    status = run["status"].replace("_", " ").replace("refused", "data refused")
    version = NONE if run["version"] is None else str(run["version"])
    verdict = Span(status, _LOOKS.get(run["status"], "warn"))
    return run["started"], verdict, accuracy, images, version, seconds(run["seconds"])


def _difference(changed: Changes) -> str:
    """Describe the first changes of each kind: `train.epochs 8 → 9, images of cat +2`."""
    settings = [
        f"{change['name']} {_short(change['before'])} → {_short(change['after'])}"
        for change in changed["configuration"]
    ]
    counts = [
        f"{change['name']} {(change['after'] or 0) - (change['before'] or 0):+,}"
        for change in changed["data"]
    ]
    parts = [*settings[:_SHOWN], *counts[:_SHOWN]]
    hidden = len(settings) + len(counts) - len(parts)
    return ", ".join([*parts, f"and {hidden} more"] if hidden else parts)


def _short(value: object) -> str:
    text = '""' if value == "" else str(value)
    return text if len(text) <= _LONGEST_VALUE else f"…{text[-_LONGEST_VALUE:]}"
