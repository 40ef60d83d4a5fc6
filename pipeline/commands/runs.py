"""``imgpipe runs``: lists the runs of an output folder. It needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import escape, new_console

if TYPE_CHECKING:
    from imgpipe.pipeline.output.past_runs import PastRun
    from imgpipe.pipeline.records.runs import Change

app = typer.Typer()

SCHEMA = 1  # version of the JSON format
STATUS = {
    "blessed": ("blessed", "green"),
    "not_blessed": ("not blessed", "yellow"),
    "refused": ("data refused", "yellow"),
    "interrupted": ("interrupted", "yellow"),
    "failed": ("failed", "red"),
    "killed": ("killed", "red"),
    "damaged": ("damaged", "red"),
    "working": ("working", "cyan"),
}
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
    from imgpipe.pipeline.output import past_runs, places

    out = places.output_folder(out)
    found = past_runs.read(out)
    rows = [_row(one, found[:number]) for number, one in enumerate(found)][-last:]
    newest = _newest_version(found)
    result = {"schema": SCHEMA, "out": str(out), "runs": rows, "newest_version": newest}
    output_files.write_json(result, json_file)
    if json_file != output_files.STANDARD_OUTPUT:
        _print(out, rows, len(found))
        if newest and newest["rolled_back_to"] is not None:
            new_console().print(
                f"version {newest['number']} is the newest, and holds the model of version "
                f"{newest['rolled_back_to']} since a rollback"
            )


def _newest_version(found: Sequence[PastRun]) -> dict[str, Any] | None:
    """Describe the version that a server loads, where the last run publishes."""
    from imgpipe.components.storage import manifest

    newest = manifest.latest(found[-1].versions_folder) if found else None
    if newest is None:
        return None
    return {
        "number": newest.number,
        "path": str(newest.path),
        "rolled_back_to": newest.manifest.get("rolled_back_to"),
    }


def _row(one: PastRun, before: Sequence[PastRun]) -> dict[str, Any]:
    """Describe a run as a JSON object; `before` are the earlier runs, the oldest first."""
    from imgpipe.pipeline.output.run_comparison import configuration_changes, data_changes

    previous = before[-1] if before else None
    # A run that failed early counted no images, so data is compared with the last that did.
    with_data = next((run for run in reversed(before) if run.by_class), None)
    counts = one.by_class
    return {
        "run": one.name,
        "folder": str(one.folder),
        "started": one.started,
        "status": one.status,
        "verdict": one.summary and one.summary.verdict,
        "accuracy": one.accuracy,
        "ci95": one.gate.ci95,
        "split": one.gate.split or None,
        "folds": one.folds and one.folds.model_dump(include={"folds", "mean", "std"}),
        "images": sum(counts.values()) if counts else None,
        "classes": len(counts) if counts else None,
        "changed": {
            "configuration": _dumped(previous and configuration_changes(previous, one)),
            "data": _dumped(with_data and counts and data_changes(with_data, one)),
        },
        "version": one.version,
        "seconds": one.summary and one.summary.timings.total_s,
        "report": one.summary and one.summary.report,
    }


def _dumped(changes: Sequence[Change] | Any) -> list[dict[str, Any]]:
    return [change.dump() for change in changes or ()]


def _print(out: Path, rows: Sequence[dict[str, Any]], total: int) -> None:
    from imgpipe.components.report.text import plural

    console = new_console()
    headings = ("started", "verdict", "accuracy", "images", "version", "time")
    lines = [headings, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for number, cells in enumerate(lines):
        padded = [f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)]
        if number == 0:
            console.print(f"[bold]{'  '.join(padded)}[/]")
            continue
        row = rows[number - 1]
        padded[1] = f"[{STATUS[row['status']][1]}]{padded[1]}[/]"
        console.print("  ".join(padded).rstrip())
        if row["status"] == "damaged":
            file = Path(row["folder"]) / "summary.json"
            console.print(f"  [dim]its summary cannot be read: {escape(str(file))}[/]")
        if difference := changed(row["changed"]):
            console.print(f"  [dim]changed: {escape(difference)}[/]")
    accuracies = [_decisive(row) for row in rows if row["accuracy"] is not None]
    if len(accuracies) > 1:
        low, high = min(accuracies), max(accuracies)
        console.print(f"accuracy between {low:.3f} and {high:.3f}")
    counted = plural(total, "run") if len(rows) == total else f"{len(rows)} of {total:,} runs"
    console.print(f"{counted} in {escape(str(out))}")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    from imgpipe.components.report.text import NONE, plural, seconds

    counted = row["images"] is not None
    return (
        row["started"],
        STATUS[row["status"]][0],
        _accuracy(row),
        f"{row['images']:,} in {plural(row['classes'], 'class', 'classes')}" if counted else NONE,
        NONE if row["version"] is None else str(row["version"]),
        seconds(row["seconds"]),
    )


def _decisive(row: dict[str, Any]) -> float:
    """Return the accuracy that decided: the mean of the folds, or the validation accuracy."""
    return float(row["folds"]["mean"] if row["folds"] else row["accuracy"])


def _accuracy(row: dict[str, Any]) -> str:
    if row["accuracy"] is None:
        return "–"
    if folds := row["folds"]:
        return f"{folds['mean']:.3f} ± {folds['std']:.3f} ({folds['folds']} folds)"
    if row["ci95"] is None:
        return f"{row['accuracy']:.3f}"
    low, high = row["ci95"]
    return f"{row['accuracy']:.3f} (95 %: {low:.2f}–{high:.2f})"


def changed(changes: dict[str, list[dict[str, Any]]]) -> str:
    """Describe what changed in a few words, such as ``train.epochs 8 → 9, images of cat +2``.

    Args:
        changes: Changes of the configuration and of the data, as in the JSON.

    Returns:
        The first changes of each kind; "" when nothing changed.
    """
    settings = [
        f"{entry['name']} {short(entry['before'])} → {short(entry['after'])}"
        for entry in changes["configuration"]
    ]
    counts = [
        f"{entry['name']} {(entry['after'] or 0) - (entry['before'] or 0):+,}"
        for entry in changes["data"]
    ]
    parts = [*settings[:_SHOWN], *counts[:_SHOWN]]
    hidden = len(settings) + len(counts) - len(parts)
    return ", ".join([*parts, f"and {hidden} more"] if hidden else parts)


def short(value: Any) -> str:
    """Format a value of the configuration; of a long one, only its end is shown."""
    text = '""' if value == "" else str(value)
    return text if len(text) <= _LONGEST_VALUE else f"…{text[-_LONGEST_VALUE:]}"
