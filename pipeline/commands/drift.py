"""``imgpipe drift``: compares the requests to a server with the training data of its model."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipe.models.errors import DataRefused
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import escape

if TYPE_CHECKING:
    from rich.console import Console

    from imgpipe.pipeline.request_drift.comparison import Comparison, VersionComparison
    from imgpipe.pipeline.request_drift.examination import Examined, Log

app = typer.Typer()

SCHEMA = 1  # of the file that --json writes
_WIDTH_PLAIN = 120  # columns when the output is not a terminal
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
    run: Annotated[
        Path | None,
        typer.Option(
            "--run",
            metavar="OUT",
            help="Output folder of the run, if versions were published elsewhere.",
        ),
    ] = None,
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
            from imgpipe.components.data_gate import component  # noqa: F401  # TFX has to come before TFDV
            from imgpipe.pipeline.request_drift import examination
        with display.step("reading the log"):
            read = examination.read(log, versions)
        with display.step("comparing"):
            examined = examination.examine(read, versions, run)
    console = output_files.console_beside(json_file)
    _print(console, read, examined)
    output_files.write_json(as_json(read, examined), json_file)
    if examined.drift:
        raise typer.Exit(DataRefused.exit_code)


def as_json(read: Log, examined: Examined) -> dict[str, Any]:
    """Build what `--json` writes; `imgpipe.pipeline.records` declares it.

    Args:
        read: The log.
        examined: The comparisons of each version.
    """
    statistics = read.statistics
    return {
        "schema": SCHEMA,
        "drift": examined.drift,
        "verdict": examined.verdict,
        "log": {
            "files": [str(path) for path in read.files],
            "records": statistics.records,
            "answers": read.survey.answers,
            "pictures": read.survey.images,
            "skipped": dict(statistics.skipped),
            "broken": [vars(found) for found in statistics.broken],
        },
        "versions": [_version_json(one) for one in examined.compared],
        "versions_gone": list(examined.gone),
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


def _print(console: Console, read: Log, examined: Examined) -> None:
    colour = {True: "red", False: "green", None: "yellow"}[examined.drift]
    console.print(f"\n[bold {colour}]{escape(examined.verdict)}[/]")
    for one in examined.compared:
        _print_version(console, one)
    for line in _remarks(read, examined):
        console.print(f"[yellow]{escape(line)}[/]")
    if not read.survey.images:
        console.print(f"  [dim]{escape(_SWITCH_ON)}[/]")


def _print_version(console: Console, one: VersionComparison) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from imgpipe.components.report.text import plural

    requests = one.requests
    different = (
        f", {plural(len(requests.locations), 'different image')}" if requests.locations else ""
    )
    console.print(
        f"\n[bold]version {requests.version}[/]  {plural(requests.answers, 'answer')}{different}, "
        f"{_when(requests.first)} to {_when(requests.last)}"
    )
    if one.comparisons:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for heading in ("property", "compared with", "was", "is"):
            table.add_column(heading, overflow="fold")
        for heading in ("distance", "limit"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
        for found in sorted(one.comparisons, key=_order):
            limit = "–" if found.limit is None else f"{found.limit:.2f}"
            state = "[bold red]over[/]" if found.over else "[green]ok[/]"
            cells = (found.feature, found.reference, found.was, found.now)
            table.add_row(
                *map(escape, cells),
                f"{found.distance:.2f}",
                limit,
                "" if found.limit is None else state,
            )
        if not console.is_terminal:  # Rich would take 80 columns and fold the cells
            console.width = _WIDTH_PLAIN
        console.print(table, soft_wrap=False)
    if requests.unknown or one.unknown_was:
        was = "–" if one.unknown_was is None else f"{one.unknown_was:.3f}"
        console.print(f'  share of "unknown": {was} on validation, {requests.unknown:.3f} now')
    for note in one.notes:
        console.print(f"  [dim]{escape(note)}[/]")


def _order(found: Comparison) -> tuple[bool, bool, str]:
    """Return the sort key: comparisons over their limit first, those without a limit last."""
    return not found.over, found.limit is None, found.subject


def _remarks(read: Log, examined: Examined) -> Iterator[str]:
    """Yield sentences about the part of the log that was not compared."""
    from imgpipe.components.report.text import plural

    for broken in read.statistics.broken:
        yield broken.sentence()
    for reason, count in read.statistics.skipped.most_common():
        yield f"{plural(count, 'record')} skipped: {reason}"
    if examined.gone:
        gone = ", ".join(map(str, examined.gone))
        yield f"answers of version {gone} were not compared: the version no longer exists"
    failed = examined.measured.failed
    if failed:
        yield f"{plural(failed, 'image')} of the log cannot be decoded:"
    for found in examined.measured.undecodable[:_NAMED]:
        yield f"  {found.image}: {found.error}"
    if failed > _NAMED:
        yield f"  … and {failed - _NAMED} more; --json lists more of them"
