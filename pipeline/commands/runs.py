"""`imgpipe runs`: lists the runs of an output folder. It needs no TensorFlow."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.pipeline.command_line import options

if TYPE_CHECKING:
    from imgpipe.components.report.blocks import ResultBlock, SpanLook, TableCell
    from imgpipe.pipeline.output.run import Run
    from imgpipe.pipeline.output.run_history import RunList

app = typer.Typer()

_LOOKS: dict[str, SpanLook] = {
    "blessed": "good",
    "working": "strong",
    "failed": "bad",
    "killed": "bad",
    "damaged": "bad",
}
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
    json_file: options.JsonOption = None,
) -> None:
    """List the runs of an output folder: verdict, accuracy, data and version."""
    from imgpipe.pipeline.command_line.printing import show_result
    from imgpipe.pipeline.output.output_folder import OutputFolder
    from imgpipe.pipeline.output.run_history import list_runs

    folder = OutputFolder.find(out)
    runs = folder.runs
    listed = list_runs(folder.path, runs, last)
    show_result(_blocks(runs[-last:], listed, len(runs)), listed, json_file)


def _blocks(runs: Sequence[Run], listed: RunList, total: int) -> Iterator[ResultBlock]:
    """Yield the table of the runs, what is served, and the commands that go on from the newest."""
    from imgpipe.components.common.formatting import plural
    from imgpipe.components.report.blocks import Command, Figures, Sentence, Table
    from imgpipe.components.report.commands import shown
    from imgpipe.components.run_record.run_folder import RESULT

    columns = ("started", "verdict", "accuracy", "images", "version", "time")
    yield Table("Runs", columns, [_cells(run, listed["withdrawn"]) for run in runs])
    for run in runs:
        if run.status == "damaged":
            file = run.folder / RESULT
            yield Sentence(f"  {run.started}: its result cannot be read: {file}", "muted")
    counted = plural(total, "run") if len(runs) == total else f"{len(runs)} of {total:,} runs"
    yield Sentence(f"{counted} in {listed['out']}")
    newest = listed["newest_version"]
    if newest and newest["rolled_back_to"] is not None:
        yield Sentence(
            f"version {newest['number']} is the newest, and holds the model of version "
            f"{newest['rolled_back_to']} since a rollback"
        )
    for number in listed["withdrawn"][:1]:
        command = Command(f"imgpipe rollback {shlex.quote(listed['out'])} --to {number}")
        yield Figures([(f"publish version {number} after all:", command)])
    yield shown(listed["next"])


def _cells(run: Run, withdrawn: Sequence[int]) -> tuple[TableCell, ...]:
    """Return the cells of a run."""
    from imgpipe.components.common.formatting import NONE, seconds, share
    from imgpipe.components.report.blocks import Span

    accuracy = NONE
    if run.decided_by is not None:
        low, high = run.decided_by["ci95"]
        accuracy = f"{share(run.decided_by['accuracy'])} ({low:.2f}–{high:.2f})"
    status = run.status.replace("_", " ").replace("refused", "data refused")
    status = status.replace("earlier", "of an earlier")
    verdict = Span(status, _LOOKS.get(run.status, "warn"))
    count = sum(run.by_class.values())
    images = f"{count:,}" if count else NONE
    version = NONE if run.version is None else str(run.version)
    if run.version in withdrawn:
        version = f"{version}, withdrawn"
    duration = seconds(run.result["timings"]["total_s"] or None)
    return run.started, verdict, accuracy, images, version, duration
