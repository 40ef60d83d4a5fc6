"""`imgpipe drift`: compares the requests to a server with the training data of its model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.errors import DataRefused
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import escape

if TYPE_CHECKING:
    from rich.console import Console

    from imgpipe.pipeline.request_drift.comparison import PropertyComparison, VersionComparison
    from imgpipe.pipeline.request_drift.examination import DriftSummary

app = typer.Typer()

_NAMED = 5  # undecodable images that are listed
#: How to get images into the log.
_SWITCH_ON = (
    "the log holds no images; start the server with `imgpipe serve --request-log PREFIX "
    "--log-images` to log them"
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
    from imgpipe.models.machine.process import quick_imports
    from imgpipe.pipeline.command_line import console as consoles
    from imgpipe.pipeline.output import lookup
    from imgpipe.pipeline.request_drift.log import log_files

    log_files(log)  # reports a missing log before the imports
    versions = lookup.model(model, published=True).intact_versions
    with consoles.counted(to_stderr=json_file == output_files.STANDARD_OUTPUT) as display:
        with display.step("loading TensorFlow, TFX"), quick_imports():
            from imgpipe.pipeline.request_drift import examination
        with display.step("reading the log"):
            read = examination.read(log, versions)
        with display.step("comparing"):
            summary = examination.examine(read, versions)
    console = output_files.console_beside(json_file)
    _print(console, summary)
    output_files.write_json(summary, json_file)
    if summary["drift"]:
        raise typer.Exit(DataRefused.exit_code)


def _print(console: Console, summary: DriftSummary) -> None:
    colour = {True: "red", False: "green", None: "yellow"}[summary["drift"]]
    console.print(f"\n[bold {colour}]{escape(summary['verdict'])}[/]")
    for version in summary["versions"]:
        _print_version(console, version)
    for line in _remarks(summary):
        console.print(f"[yellow]{escape(line)}[/]")
    if not summary["log"]["images"]:
        console.print(f"  [dim]{escape(_SWITCH_ON)}[/]")


def _remarks(summary: DriftSummary) -> Iterator[str]:
    """Yield sentences about what was not compared."""
    from imgpipe.components.common.formatting import plural
    from imgpipe.pipeline.request_drift.log import damage

    for broken in summary["log"]["broken"]:
        yield damage(broken)
    skipped = summary["log"]["skipped"]
    for reason in sorted(skipped, key=lambda reason: -skipped[reason]):
        yield f"{plural(skipped[reason], 'record')} skipped: {reason}"
    for number in sorted(summary["versions_gone"]):
        yield f"answers of version {number} were not compared: the version no longer exists"
    if summary["undecodable"]:
        yield f"{plural(summary['undecodable'], 'image')} of the log cannot be decoded:"
    for undecodable in summary["undecodable_first"][:_NAMED]:
        yield f"  {undecodable['image']}: {undecodable['error']}"


def _print_version(console: Console, version: VersionComparison) -> None:
    from imgpipe.components.common.formatting import plural

    console.print(
        f"\n[bold]version {version['version']}[/]  {plural(version['answers'], 'answer')}, "
        f"{plural(version['different_images'], 'different image')}, "
        f"{version['first']} to {version['last']}"
    )
    for row in sorted(version["comparisons"], key=_place):
        _print_comparison(console, row)
    unknown = version["unknown"]
    usual = version["unknown_on_validation"]
    if unknown or usual:
        was = "–" if usual is None else f"{usual:.3f}"
        console.print(f'  share of "unknown": {was} on validation, {unknown:.3f} now')
    for note in version["notes"]:
        console.print(f"  [dim]{escape(note)}[/]")


def _place(row: PropertyComparison) -> tuple[bool, bool, str]:
    """Put comparisons over their limit first, and those without a limit last."""
    return not row["over"], row["limit"] is None, row["subject"]


def _print_comparison(console: Console, row: PropertyComparison) -> None:
    what = f"{row['feature']}: {row['was']} in {row['reference']}, {row['now']} now"
    state = "[dim]shown[/]"
    distance = f"distance {row['distance']:.2f}"
    if row["limit"] is not None:
        state = "[bold red]over [/]" if row["over"] else "[green]ok   [/]"
        distance += f", limit {row['limit']:.2f}"
    console.print(f"  {state} {escape(what)} ({distance})")
