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
    from imgpipe.pipeline.records import runs as formats

app = typer.Typer()

_COLOURS = {"blessed": "green", "working": "cyan"} | dict.fromkeys(
    ("failed", "killed", "damaged"), "red"
)
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
    from imgpipe.pipeline.records.runs import Runs

    out = places.output_folder(out)
    found = past_runs.read(out)
    rows = [_row(one, found[:number]) for number, one in enumerate(found)][-last:]
    listed = Runs(out=str(out), runs=rows, newest_version=_newest_version(found))
    output_files.write_json(listed.dump(), json_file)
    if json_file != output_files.STANDARD_OUTPUT:
        _print(listed, len(found))


def _newest_version(found: Sequence[PastRun]) -> formats.NewestVersion | None:
    """Describe the version that a server loads, where the last run publishes."""
    from imgpipe.components.common.storage import manifest
    from imgpipe.pipeline.records.runs import NewestVersion

    newest = manifest.latest(found[-1].versions_folder) if found else None
    if newest is None:
        return None
    before = newest.manifest.get("rolled_back_to")
    return NewestVersion(number=newest.number, path=str(newest.path), rolled_back_to=before)


def _row(one: PastRun, before: Sequence[PastRun]) -> formats.ListedRun:
    """Describe a run; `before` are the earlier runs, the oldest first."""
    from imgpipe.pipeline.output.run_comparison import configuration_changes, data_changes
    from imgpipe.pipeline.records.runs import Changed, FoldsOfRun, ListedRun

    # A run that failed early counted no images, so data is compared with the last that did.
    with_data = next((run for run in reversed(before) if run.by_class), None)
    counts, summary, folds = one.by_class, one.summary, one.folds
    return ListedRun(
        run=one.name,
        folder=str(one.folder),
        started=one.started,
        status=one.status,
        verdict=summary and summary.verdict,
        accuracy=one.accuracy,
        ci95=one.gate.ci95,
        split=one.gate.split or None,
        folds=folds and FoldsOfRun(folds=folds.folds, mean=folds.mean, std=folds.std),
        images=sum(counts.values()) if counts else None,
        classes=len(counts) if counts else None,
        changed=Changed(
            configuration=configuration_changes(before[-1], one) if before else [],
            data=data_changes(with_data, one) if with_data and counts else [],
        ),
        version=one.version,
        seconds=summary and summary.timings.total_s,
        report=summary and summary.report,
    )


def _print(listed: formats.Runs, total: int) -> None:
    from imgpipe.components.report.text import plural

    console, rows = new_console(), listed.runs
    lines = [("started", "verdict", "accuracy", "images", "version", "time"), *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [[f"{c:<{width}}" for c, width in zip(cells, widths, strict=True)] for cells in lines]
    console.print(f"[bold]{'  '.join(padded[0])}[/]")
    for row, cells in zip(rows, padded[1:], strict=True):
        cells[1] = f"[{_COLOURS.get(row.status, 'yellow')}]{cells[1]}[/]"
        console.print("  ".join(cells).rstrip())
        if row.status == "damaged":
            file = escape(f"{row.folder}/summary.json")
            console.print(f"  [dim]its summary cannot be read: {file}[/]")
        if difference := _changes(row.changed):
            console.print(f"  [dim]changed: {escape(difference)}[/]")
    accuracies = [
        row.folds.mean if row.folds else row.accuracy for row in rows if row.accuracy is not None
    ]
    if len(accuracies) > 1:
        console.print(f"accuracy between {min(accuracies):.3f} and {max(accuracies):.3f}")
    counted = plural(total, "run") if len(rows) == total else f"{len(rows)} of {total:,} runs"
    console.print(f"{counted} in {escape(listed.out)}")
    newest = listed.newest_version
    if newest and newest.rolled_back_to is not None:
        console.print(
            f"version {newest.number} is the newest, and holds the model of version "
            f"{newest.rolled_back_to} since a rollback"
        )


def _cells(row: formats.ListedRun) -> tuple[str, ...]:
    from imgpipe.components.report.text import NONE, plural, seconds, share

    accuracy, images = share(row.accuracy), NONE
    if folds := row.folds:
        accuracy = f"{folds.mean:.3f} ± {folds.std:.3f} ({folds.folds} folds)"
    elif row.ci95:
        accuracy += f" (95 %: {row.ci95[0]:.2f}–{row.ci95[1]:.2f})"
    if row.images is not None:
        images = f"{row.images:,} in {plural(row.classes or 0, 'class', 'classes')}"
    status = row.status.replace("_", " ").replace("refused", "data refused")
    version = NONE if row.version is None else str(row.version)
    return row.started, status, accuracy, images, version, seconds(row.seconds)


def _changes(changed: formats.Changed) -> str:
    """Describe the first changes of each kind: ``train.epochs 8 → 9, images of cat +2``."""
    settings = [
        f"{one.name} {_short(one.before)} → {_short(one.after)}" for one in changed.configuration
    ]
    counts = [f"{one.name} {(one.after or 0) - (one.before or 0):+,}" for one in changed.data]
    parts = [*settings[:_SHOWN], *counts[:_SHOWN]]
    hidden = len(settings) + len(counts) - len(parts)
    return ", ".join([*parts, f"and {hidden} more"] if hidden else parts)


def _short(value: Any) -> str:
    text = '""' if value == "" else str(value)
    return text if len(text) <= _LONGEST_VALUE else f"…{text[-_LONGEST_VALUE:]}"
