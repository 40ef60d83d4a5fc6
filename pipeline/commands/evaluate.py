"""`imgpipe evaluate`: judges a model on labelled images that are new to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from imgpipe.pipeline.command_line import options, output_files

if TYPE_CHECKING:
    from imgpipe.components.report.blocks import ResultBlock
    from imgpipe.pipeline.published.evaluation_summary import EvaluationSummary

app = typer.Typer()

_CONFUSIONS = 5  # most frequent confusions on the terminal
_BELOW = 3  # exit code: finished, and the model is not good enough
_EXAMPLES = """Examples:\n
  imgpipe evaluate --model imgpipe-out --data new-photos\n
  imgpipe evaluate --model imgpipe-out/model/2 --data test.zip --html page.html\n
  imgpipe evaluate --model imgpipe-out --data new-photos --threshold 0.9 --json -\n
  imgpipe evaluate --model imgpipe-out --run newest --data new-photos
"""


@app.command("evaluate", rich_help_panel=options.RUNS, epilog=_EXAMPLES)
def command(
    data: Annotated[str, typer.Option("--data", metavar="SRC", help=options.SOURCE_HELP)],
    model: options.ModelFolderOption = Path("imgpipe-out"),
    version: options.VersionOption = None,
    threshold: Annotated[
        float,
        typer.Option("--threshold", help="Accuracy to be shown; the exit code is 3 if it is not."),
    ] = 0.0,
    config: Annotated[
        str | None,
        typer.Option(
            "--config", metavar="FILE|PRESET", help="Settings that say how to read the data."
        ),
    ] = None,
    settings: options.SettingsOption = None,
    json_file: options.JsonOption = None,
    html_file: options.HtmlOption = None,
    run: options.RunOption = None,
) -> None:
    """Evaluate a model on labelled images that it was not trained on."""
    from imgpipe.pipeline.command_line import console as consoles
    from imgpipe.pipeline.command_line.printing import show_result
    from imgpipe.pipeline.configuration.given_settings import assigned, configuration
    from imgpipe.pipeline.output import lookup
    from imgpipe.pipeline.published.evaluation import evaluate

    built = configuration(config, data, None, assigned(settings or []))
    to_stderr = json_file == output_files.STANDARD_OUTPUT
    evaluation = evaluate(lookup.model(model, run, version), built, threshold, to_stderr)
    if html_file is not None:
        with consoles.counted(to_stderr) as display, display.step("explaining mistakes"):
            output_files.write(html_file, evaluation.html, "--html ")
    summary = cast("EvaluationSummary", evaluation.summary)
    show_result(_blocks(summary, html_file), summary, json_file)
    if not summary["passed"]:
        raise typer.Exit(_BELOW)


def _blocks(summary: EvaluationSummary, page: Path | None) -> Iterator[ResultBlock]:
    """Yield the verdict, the figures, the findings, and where the model is wrong."""
    from imgpipe.components.report.blocks import Figures, Heading, Span, Table
    from imgpipe.components.report.sections.accuracy import class_figures
    from imgpipe.pipeline.command_line import printing

    yield Heading(Span(summary["verdict"], "good" if summary["passed"] else "warn"))
    figures = [("model", summary["model"])]
    if summary["loss"] is not None:
        calibration = f"expected calibration error {summary['ece']:.3f}"
        by_chance = f"{summary['ece_by_chance']:.3f} by chance on this number of images"
        metrics = f"log loss {summary['loss']:.3f}, {calibration} ({by_chance})"
        figures.append(("metrics", metrics))
    yield Figures(figures)
    yield printing.notes(summary["findings"])
    yield class_figures("the evaluated images", summary["per_class"])
    wrong = [cell for cell in summary["confusion"] if cell["label"] != cell["predicted"]]
    wrong.sort(key=lambda cell: -cell["count"])
    rows = [
        (f"{cell['label']} predicted as {cell['predicted']}", cell["count"])
        for cell in wrong[:_CONFUSIONS]
    ]
    if rows:
        yield Table("Confusions", ("most frequent confusions", "images"), rows)
    if page is not None:
        yield Figures([("page", str(page))])
