"""``imgpipe drift``: compares the requests to a server with the training data of its model."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipe.models.errors import DataRefused
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import escape

if TYPE_CHECKING:
    from rich.console import Console

    from imgpipe.pipeline.request_drift.comparison import VersionComparison
    from imgpipe.pipeline.request_drift.examination import ExaminedLog, Log

app = typer.Typer()

SCHEMA = 1  # of the file that --json writes
_NAMED = 5  # undecodable images that are listed
#: How to get images into the log.
_SWITCH_ON = (
    "the log holds no images; start the server with `imgpipe serve --request-log PREFIX "
    "--log-images` to log them (imgpipe-model-server: --request_log_images)"
)
_EXAMPLES = """Examples:\n
  imgpipe drift logs/requests --model imgpipe-out\n
  imgpipe drift logs/requests --model imgpipe-out --json drift.json
"""


@app.command(rich_help_panel=options.SERVING, epilog=_EXAMPLES)
def drift(
    log: Annotated[
        Path, typer.Argument(metavar="LOG", help="Request log: a file, a folder, or its prefix.")
    ],
    model: options.ModelFolderOption = Path("imgpipe-out"),
    json_file: options.JsonListOption = None,
) -> None:
    """Compare the requests to a server with the training data of its model."""
    from imgpipe.models.process import quick_imports
    from imgpipe.pipeline.command_line import console as consoles
    from imgpipe.pipeline.request_drift import reference
    from imgpipe.pipeline.request_drift.log import find

    find(log)  # reports a missing log before the imports
    versions = reference.versions(model)
    with consoles.counted(to_stderr=json_file == output_files.STANDARD_OUTPUT) as display:
        with display.step("loading TensorFlow, TFX"), quick_imports():
            from imgpipe.pipeline.request_drift import examination
        with display.step("reading the log"):
            read = examination.read(log, versions)
        with display.step("comparing"):
            examined = examination.examine(read, versions)
    console = output_files.console_beside(json_file)
    _print(console, read, examined)
    output_files.write_json(as_json(read, examined), json_file)
    if examined.drift:
        raise typer.Exit(DataRefused.exit_code)


def as_json(read: Log, examined: ExaminedLog) -> dict[str, Any]:
    """Build what `--json` writes; `imgpipe.pipeline.records` declares it."""
    statistics = read.statistics
    return {
        "schema": SCHEMA,
        "drift": examined.drift,
        "verdict": examined.verdict,
        "log": {
            "files": [str(path) for path in read.files],
            "records": statistics.records,
            "answers": read.answers,
            "pictures": read.images,
            "skipped": dict(statistics.skipped),
            "broken": [vars(found) for found in statistics.broken],
        },
        "versions": [_version_json(one) for one in examined.compared],
        "versions_gone": sorted(statistics.gone, reverse=True),
        "measured": len(examined.measured.rows),
        "undecodable": examined.measured.failed,
        "undecodable_first": [
            {"picture": found.image, "error": found.error}
            for found in examined.measured.undecodable
        ],
    }


def _version_json(one: VersionComparison) -> dict[str, Any]:
    requests = one.requests
    return {
        "version": requests.version,
        "answers": requests.answers,
        "different_pictures": len(requests.locations),
        "first": _when(requests.first),
        "last": _when(requests.last),
        "labels": dict(requests.labels.most_common()),
        "unknown": requests.unknown,
        "unknown_on_validation": one.unknown_was,
        "comparisons": [vars(found) | {"over": found.over} for found in one.comparisons],
        "notes": list(one.notes),
    }


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _print(console: Console, read: Log, examined: ExaminedLog) -> None:
    from imgpipe.components.report.text import plural

    colour = {True: "red", False: "green", None: "yellow"}[examined.drift]
    console.print(f"\n[bold {colour}]{escape(examined.verdict)}[/]")
    for one in examined.compared:
        _print_version(console, one)
    remarks = [broken.sentence() for broken in read.statistics.broken]
    for reason, count in read.statistics.skipped.most_common():
        remarks.append(f"{plural(count, 'record')} skipped: {reason}")
    for number in sorted(read.statistics.gone):
        remarks.append(
            f"answers of version {number} were not compared: the version no longer exists"
        )
    if failed := examined.measured.failed:
        remarks.append(f"{plural(failed, 'image')} of the log cannot be decoded:")
        named = examined.measured.undecodable[:_NAMED]
        remarks += [f"  {found.image}: {found.error}" for found in named]
    for line in remarks:
        console.print(f"[yellow]{escape(line)}[/]")
    if not read.images:
        console.print(f"  [dim]{escape(_SWITCH_ON)}[/]")


def _print_version(console: Console, one: VersionComparison) -> None:
    from imgpipe.components.report.text import plural

    requests = one.requests
    console.print(
        f"\n[bold]version {requests.version}[/]  {plural(requests.answers, 'answer')}, "
        f"{plural(len(requests.locations), 'different image')}, "
        f"{_when(requests.first)} to {_when(requests.last)}"
    )
    # Comparisons over their limit come first, those without a limit last.
    for found in sorted(one.comparisons, key=lambda c: (not c.over, c.limit is None, c.subject)):
        what = f"{found.feature}: {found.was} in {found.reference}, {found.now} now"
        state, distance = "[dim]shown[/]", f"distance {found.distance:.2f}"
        if found.limit is not None:
            state = "[bold red]over [/]" if found.over else "[green]ok   [/]"
            distance += f", limit {found.limit:.2f}"
        console.print(f"  {state} {escape(what)} ({distance})")
    if requests.unknown or one.unknown_was:
        was = "–" if one.unknown_was is None else f"{one.unknown_was:.3f}"
        console.print(f'  share of "unknown": {was} on validation, {requests.unknown:.3f} now')
    for note in one.notes:
        console.print(f"  [dim]{escape(note)}[/]")
