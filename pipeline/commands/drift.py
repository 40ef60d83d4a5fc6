"""`imgpipe drift`: compares the requests to a server with the training data of its model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.errors import DataRefused
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import escape

if TYPE_CHECKING:
    from rich.console import Console

    from imgpipe.components.data_gate.drift import FeatureDistance
    from imgpipe.pipeline.request_drift.examination import DriftSummary

app = typer.Typer()

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
    json_file: options.JsonOption = None,
) -> None:
    """Compare the requests to a server with the training data of its model."""
    from imgpipe.components.example_gen.sources.request_log import KIND, RequestLogSource
    from imgpipe.models.machine.process import quick_imports
    from imgpipe.pipeline.command_line import console as consoles
    from imgpipe.pipeline.output import lookup

    source = RequestLogSource(str(log).removeprefix(f"{KIND}:"))
    source.files()  # reports a missing log before the imports
    versions = lookup.model(model, published=True).intact_versions
    with consoles.counted(to_stderr=json_file == output_files.STANDARD_OUTPUT) as display:
        with display.step("loading TensorFlow, TFX"), quick_imports():
            from imgpipe.pipeline.request_drift import examination
        with display.step("comparing"):
            summary = examination.examine(source, versions)
    console = output_files.console_beside(json_file)
    _print(console, summary)
    output_files.write_json(summary, json_file)
    if summary["drift"]:
        raise typer.Exit(DataRefused.exit_code)


def _print(console: Console, summary: DriftSummary) -> None:
    from imgpipe.components.common.formatting import plural
    from imgpipe.pipeline.command_line.findings import print_notes, print_rows

    colour = {True: "red", False: "green", None: "yellow"}[summary["drift"]]
    console.print(f"\n[bold {colour}]{escape(summary['verdict'])}[/]")
    console.print(
        f"\n[bold]version {summary['version']}[/]  {plural(summary['answers'], 'answer')}, "
        f"{plural(summary['different_images'], 'different image')}, "
        f"{summary['first']} to {summary['last']}"
    )
    for row in sorted(summary["comparisons"], key=lambda row: not row["over"]):
        _print_comparison(console, row)
    print_rows(console, summary["findings"])
    print_notes(console, summary["findings"])
    if not summary["images"]:
        console.print(f"  [dim]{escape(_SWITCH_ON)}[/]")


def _print_comparison(console: Console, row: FeatureDistance) -> None:
    state = "[bold red]over [/]" if row["over"] else "[green]ok   [/]"
    what = f"{row['feature']}: {row['was']} in {row['reference']}, {row['now']} now"
    distance = f"{row['measure']} {row['distance']:.2f}, limit {row['limit']:.2f}"
    console.print(f"  {state} {escape(what)} ({distance})")
