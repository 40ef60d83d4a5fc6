"""`imgpipe run`: runs the pipeline, from images to a blessed, published model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import escape

if TYPE_CHECKING:
    from rich.console import Console

    from imgpipe.components.image_filter.data_summary import DataSummary
    from imgpipe.models.training.history import History
    from imgpipe.pipeline.configuration.config import Config
    from imgpipe.pipeline.configuration.run import RunSettings
    from imgpipe.pipeline.results import Run

app = typer.Typer()

#: Colour of the verdict by exit code; that of all other codes is red.
_COLOURS = {0: "green", 3: "yellow", 4: "yellow", 130: "yellow", 143: "yellow"}
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
    given = list(settings or [])
    if minutes is not None:
        given.append(f"train.minutes={minutes}")
    from imgpipe.pipeline.command_line.settings import configuration, one_source

    built = configuration(one_source(config, preset), data, out, given)
    raise typer.Exit(run_config(built, json_file, start, accept))


def run_config(
    config: Config, json_file: str | None = None, start: str | None = None, accept: bool = False
) -> int:
    """Run the pipeline with a configuration and print the outcome.

    Args:
        config: The validated configuration.
        json_file: File for the summary, `-` for standard output, None for no file.
        start: Component from which on cached outputs are not used, None to use all.
        accept: Whether anomalies and drift of the data are accepted.

    Returns:
        The exit code.

    Raises:
        ImgpipeError: The run could not start.
    """
    from imgpipe.components.run_record import component_names

    if start is not None:  # before imports that take time
        start = component_names.full_name(start)
    from imgpipe.models.machine.process import prefer_batches
    from imgpipe.pipeline.configuration.without_effect import without_effect
    from imgpipe.pipeline.execution.pipeline_run import execute

    prefer_batches()
    console = output_files.console_beside(json_file)
    for note in without_effect(config):
        console.print(f"note: {escape(note)}")
    outcome = execute(config, start, json_file == output_files.STANDARD_OUTPUT, accept)
    tell(outcome, console, config.run)
    propose(outcome, console)
    output_files.write_json(outcome.summary, json_file)
    return outcome.exit_code


def tell(outcome: Run, console: Console, settings: RunSettings) -> None:
    """Print the outcome of a run.

    Args:
        outcome: The run.
        console: Where it is printed.
        settings: The section [run] of its configuration.
    """
    from imgpipe.components.report.pictures.learning_curve import images_to_threshold
    from imgpipe.components.run_record import verdict
    from imgpipe.components.run_record.run_files import SUMMARY
    from imgpipe.pipeline.command_line.findings import print_deciding, print_notes

    colour = _COLOURS.get(outcome.exit_code, "red")
    data = outcome.summary["data"]
    about_images = data["findings"] if data is not None else ()
    findings = [*about_images, *outcome.summary["findings"]]
    print_deciding(console, findings)
    if outcome.repeated:
        console.print(f"nothing has changed since the run {escape(outcome.folder.name)}")
    gate = outcome.summary["gate"]
    headline = verdict.headline(outcome.verdict, gate)
    console.print(f"\n[bold {colour}]{escape(headline, lines=True)}[/]")
    for ruling in verdict.rulings(gate) if gate is not None else []:
        heading = "[bold]failed[/]  " if ruling["reason"] else "passed  "
        console.print(f"  {heading} {escape(ruling['reason'] or ruling['text'])}")
    test = verdict.test_line(outcome.summary["metrics"])
    if test:
        console.print(f"  test     {escape(test)}")
    console.print(f"  data     {escape(_data(outcome.summary['data']))}")
    if outcome.model is not None:
        state = outcome.summary["push"]["status"].replace("pushed", "published")
        console.print(f"  model    {escape(str(outcome.model))} ({state})")
    for heading, text in _training(outcome.summary["training"]):
        console.print(f"  {heading:<8} {escape(text)}")
    for text in _changed_choices(outcome):
        console.print(f"  changed  {escape(text)}")
    images = images_to_threshold(outcome.summary["training"], gate)
    if images is not None and gate is not None:
        enough = f"about {images:,} training images would reach {gate['threshold']:g}"
        console.print(f"  images   {enough}")
    for heading, text in verdict.expected_lines(outcome.summary["expected"]):
        console.print(f"  {heading} {escape(text)}")
    print_notes(console, findings)
    if outcome.summary["report"]:
        console.print(f"  report   {escape(outcome.summary['report'])}")
    console.print(f"  summary  {escape(str(outcome.folder / SUMMARY))}")
    if outcome.freed:
        size = f"{outcome.freed / 1e6:,.1f} MB of files"
        console.print(f"  removed  {size} that no later run reads (run.keep = {settings.keep})")
    if outcome.exit_code:
        console.print(f"  log      {escape(outcome.summary['log'])}")


def propose(outcome: Run, console: Console) -> None:
    """Print what can be done after a run."""
    from imgpipe.components.report.commands import lines

    for line in lines(outcome.summary["next"]):
        console.print(f"  {escape(line)}")


def _data(data: DataSummary | None) -> str:
    """Count the files that were kept, repaired and rejected."""
    if data is None or not data["in"]:
        return "no file was inspected"
    rejected = (finding for finding in data["findings"] if finding["fate"] == "rejected")
    reasons = ", ".join(f"{finding['count']:,} {finding['title']}" for finding in rejected)
    quarantine = f"{data['rejected']:,} in quarantine" + (f" ({reasons})" if reasons else "")
    repaired = f", {data['repaired']:,} repaired" if data["repaired"] else ""
    return f"{data['in']:,} files: {data['kept']:,} kept{repaired}, {quarantine}"


def _changed_choices(outcome: Run) -> Iterator[str]:
    """Yield what of the model differs from that of the last run with one."""
    from imgpipe.pipeline.commands.compare import described
    from imgpipe.pipeline.output.output_folder import OutputFolder
    from imgpipe.pipeline.output.run_history import choice_changes

    runs = OutputFolder(outcome.out).runs
    this = next((run for run in runs if run.name == outcome.folder.name), None)
    before = [run for run in runs if run.decided_by is not None and run.name < outcome.folder.name]
    if this is None or this.decided_by is None or not before:
        return
    for change in choice_changes(before[-1], this):
        yield f"{described(change)} since the run {before[-1].name}"


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
