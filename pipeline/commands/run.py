"""`imgpipe run`: runs the pipeline, from images to a blessed, published model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import say

if TYPE_CHECKING:
    from imgpipe.components.image_filter.data_summary import DataSummary
    from imgpipe.components.report.blocks import NamedText, ResultBlock, SpanLook
    from imgpipe.models.training.history import History
    from imgpipe.pipeline.configuration.sections import RunSettings
    from imgpipe.pipeline.results import Run

app = typer.Typer()

#: Look of the verdict by exit code; all other codes are crashes.
_LOOKS: dict[int, SpanLook] = {0: "good", 3: "warn", 4: "warn", 130: "warn", 143: "warn"}
_EXAMPLES = """Examples:\n
  imgpipe run photos --out imgpipe-out\n
  imgpipe run --config photos.toml --set evaluate.threshold=0.95\n
  imgpipe run photos --preset cats_vs_dogs_inception --out inception
"""


@app.command("run", rich_help_panel=options.DATA_AND_TRAINING, epilog=_EXAMPLES)
def command(
    data: Annotated[str | None, typer.Argument(metavar="DATA", help=options.SOURCE_HELP)] = None,
    config: options.ConfigOption = None,
    preset: options.PresetOption = None,
    out: options.OutOption = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes",
            min=0,
            metavar="M",
            help="Minutes for trying to improve the first, quick model; 0 skips this. Default: "
            "the images decide how much is tried, and no clock: nothing for up to 500 images to "
            "learn from, otherwise what two cores do in 3 to 15 minutes, more with more images.",
        ),
    ] = None,
    settings: options.SettingsOption = None,
    json_file: options.JsonOption = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="COMPONENT",
            help="Compute again from this step on, such as ImageTrainer, instead of using stored "
            "results.",
        ),
    ] = None,
    accept: Annotated[
        bool,
        typer.Option("--accept", help="Accept that the images differ from those of earlier runs."),
    ] = False,
) -> None:
    """Run the pipeline: from images to a blessed, published model."""
    from imgpipe.components.run_record import run_folder
    from imgpipe.pipeline.configuration import given_settings

    given = given_settings.assigned(settings or [])
    if minutes is not None:
        given["train.minutes"] = minutes
    source = given_settings.one_source(config, preset)
    built = given_settings.configuration(source, data, out, given)
    if start is not None:  # before imports that take time
        start = run_folder.full_name(start)
    from imgpipe.components.report.commands import shown
    from imgpipe.models.machine.process import prefer_batches
    from imgpipe.pipeline.command_line.printing import show_result
    from imgpipe.pipeline.execution.pipeline_run import execute

    prefer_batches()
    for note in given_settings.without_effect(built):
        say(output_files.console_beside(json_file), f"note: {note}")
    outcome = execute(built, start, json_file == output_files.STANDARD_OUTPUT, accept)
    show_result([*blocks(outcome, built.run), shown(outcome.next)], outcome.result, json_file)
    raise typer.Exit(outcome.exit_code)


def blocks(outcome: Run, settings: RunSettings) -> Iterator[ResultBlock]:
    """Yield the verdict of a run, with what has to be known before it, and the figures."""
    from imgpipe.components.image_filter.findings import joined
    from imgpipe.components.report import blocks as show
    from imgpipe.components.run_record import verdict
    from imgpipe.components.run_record.run_folder import LOG, RESULT
    from imgpipe.pipeline.command_line import printing

    result = outcome.result
    about_images = result["data"]["findings"] if result["data"] is not None else ()
    findings = joined(about_images, result["findings"])
    yield printing.deciding(findings)
    if outcome.repeated:
        yield show.Sentence(f"nothing has changed since the run {outcome.folder.name}")
    headline, *more = verdict.headline(outcome.verdict, result["gate"]).splitlines() or [""]
    look = _LOOKS.get(outcome.exit_code, "bad")
    yield show.Heading(show.Span(headline, look))
    for line in more:
        yield show.Sentence(show.Span(line, look), "sentence")
    yield show.Figures([*_figures(outcome)])
    yield printing.notes(findings)
    files = {"report": str(outcome.report or ""), "result": str(outcome.folder / RESULT)}
    if outcome.freed and len([*outcome.folder.parent.iterdir()]) > 1:  # not in a first run
        size = f"{outcome.freed / 1e6:,.1f} MB of files"
        files["removed"] = f"{size} that no later run reads (run.keep = {settings.keep})"
    if outcome.exit_code:
        files["log"] = str(outcome.folder / LOG)
    yield show.Figures([(name, text) for name, text in files.items() if text])


def _figures(outcome: Run) -> Iterator[NamedText]:
    """Yield what the rules say, the figures of the run, and what of the model differs."""
    from imgpipe.components.report.blocks import Span
    from imgpipe.components.report.pictures.plots import photographs_to_add
    from imgpipe.components.run_record import verdict

    result = outcome.result
    gate = result["gate"]
    for ruling in verdict.rulings(gate) if gate is not None else []:
        heading = Span("failed", "strong") if ruling["reason"] else "passed"
        yield heading, ruling["reason"] or ruling["text"]
    test = verdict.test_line(result["metrics"])
    if test:
        yield "test", test
    yield "data", _data(result["data"])
    if outcome.model is not None:
        state = result["push"]["status"].replace("pushed", "published")
        yield "model", f"{outcome.model} ({state})"
    yield from _training(result["training"])
    data = result["data"]
    if data is not None and gate is not None:
        classes = sum(map(bool, data["by_split"]["train"].values()))
        more = photographs_to_add(result["training"], gate, data["kept"], classes)
        if more:
            yield "images", more


def _data(data: DataSummary | None) -> str:
    """Count the files that were kept, repaired and rejected."""
    if data is None or not data["in"]:
        return "no file was inspected"
    refused = (finding for finding in data["findings"] if finding["fate"] == "rejected")
    reasons = ", ".join(f"{finding['count']:,} {finding['title']}" for finding in refused)
    rejected = f"{data['rejected']:,} rejected" + (f" ({reasons})" if reasons else "")
    repaired = f" ({data['repaired']:,} repaired)" if data["repaired"] else ""
    left_out = sum(data["left_out"].values())
    left = f", {left_out:,} left out" if left_out else ""
    return f"{data['found']:,} files: {data['kept']:,} kept{repaired}, {rejected}{left}"


def _training(training: History | None) -> Iterator[tuple[str, str]]:
    """Yield what was tried, and the result of fine-tuning."""
    from imgpipe.models.training.history import describe_tried

    if training is None:
        return
    for tried in training["search"] or []:
        yield "tried", describe_tried(tried)
    if training["search_ended"] is not None and training["search_ended"]["sentence"]:
        yield "", f"{training['search_ended']['sentence']}."
    tuned = training["fine_tune"]
    if tuned is not None and not training["search"]:
        before = tuned["head_accuracy"]
        after = tuned["accuracy"]
        change = f"validation accuracy {before:.3f} before and {after:.3f} after fine-tuning"
        yield "trained", f"{tuned['trained']}: {change}"
