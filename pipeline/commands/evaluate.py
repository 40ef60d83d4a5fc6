"""`imgpipe evaluate`: judges a model on labelled images that are new to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.pipeline.command_line import options, output_files

if TYPE_CHECKING:
    from imgpipe.components.report.blocks import ResultBlock
    from imgpipe.pipeline.results import Evaluation

app = typer.Typer()

_BELOW = 3  # exit code: finished, and the model is not good enough
_EXAMPLES = """Examples:\n
  imgpipe evaluate --model imgpipe-out --data new-photos\n
  imgpipe evaluate --model imgpipe-out/model/2 --data test.zip --html page.html\n
  imgpipe evaluate --model imgpipe-out --data new-photos --threshold 0.9 --json -\n
  imgpipe evaluate --model imgpipe-out/runs/20260131-140559 --data new-photos
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
) -> None:
    """Evaluate a model on labelled images that it was not trained on."""
    from imgpipe.pipeline.command_line import console as consoles
    from imgpipe.pipeline.command_line.printing import show_result
    from imgpipe.pipeline.configuration.given_settings import assigned, configuration
    from imgpipe.pipeline.output import lookup
    from imgpipe.pipeline.published.evaluation import evaluate

    built = configuration(config, data, None, assigned(settings or []))
    with consoles.counted(json_file == output_files.STANDARD_OUTPUT) as display:
        evaluation = evaluate(lookup.model(model, version), built, threshold)
        if html_file is not None:
            with display.step("explaining mistakes"):
                output_files.write(html_file, evaluation.html, "--html ")
    show_result(_blocks(evaluation, html_file), evaluation.result, json_file)
    if not evaluation.passed:
        raise typer.Exit(_BELOW)


def _blocks(evaluation: Evaluation, page: Path | None) -> Iterator[ResultBlock]:
    """Yield the verdict with its grounds, the figures of the classes, and the mistakes."""
    from imgpipe.components.report.blocks import Figures, Heading, Span
    from imgpipe.components.report.other_pages import grounds_of_evaluation
    from imgpipe.components.report.sections.accuracy import class_figures
    from imgpipe.components.report.sections.pictures import matrix

    result = evaluation.result
    measured = evaluation.metrics["evaluation"]
    yield Heading(Span(evaluation.verdict, "good" if evaluation.passed else "warn"))
    yield from grounds_of_evaluation(result)
    yield class_figures("the evaluated images", measured["per_class"])
    if result["answers"] is not None and result["answers"]["matrix"]:
        yield Heading("What is taken for what: rows are labels, columns are answers")
        yield matrix(result, result["answers"], measured)
    if page is not None:
        yield Figures([("page", str(page))])
