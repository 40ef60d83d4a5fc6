"""`imgpipe run`: runs the pipeline, from images to a blessed, published model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import say

if TYPE_CHECKING:
    from imgpipe.components.report.blocks import ResultBlock, SpanLook
    from imgpipe.models.settings.running import RunSettings
    from imgpipe.pipeline.output.run import Run

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
            help="Minutes of two ordinary cores for trying to improve the first, quick model, on "
            "any machine; 0 skips this. Default: the images decide how much is tried: nothing for "
            "up to 500 images to learn from, otherwise 3 to 15 minutes, more with more images.",
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
    """Yield the verdict of a run with its grounds, what was trained, and the files."""
    from imgpipe.components.report.blocks import Figures, Heading, Sentence, Span
    from imgpipe.components.report.pictures.plots import photographs_to_add
    from imgpipe.components.report.sections import images, training
    from imgpipe.components.report.sections import outcome as ending
    from imgpipe.components.run_record.run_folder import LOG, RESULT

    result = outcome.result
    if outcome.repeated:
        yield Sentence(f"nothing has changed since the run {outcome.folder.name}")
    first, *more = ending.headline(result).splitlines() or [""]
    look = _LOOKS.get(outcome.exit_code, "bad")
    yield Heading(Span(first, look))
    for line in more:
        yield Sentence(Span(line, look), "sentence")
    yield from ending.grounds(result)
    if result["data"] is not None:
        yield from images.counted(result["data"])
    if result["training"] is not None:
        yield from training.tried(result["training"])
    more_images = photographs_to_add(result)
    if more_images:
        yield Sentence(more_images)
    files = {"report": str(outcome.report or ""), "result": str(outcome.folder / RESULT)}
    if outcome.model is not None:
        state = result["push"]["status"].replace("pushed", "published")
        files["model"] = f"{outcome.model} ({state})"
    if outcome.freed and len([*outcome.folder.parent.iterdir()]) > 1:  # not in a first run
        size = f"{outcome.freed / 1e6:,.1f} MB of files"
        files["removed"] = f"{size} that no later run reads (run.keep = {settings.keep})"
    if outcome.exit_code:
        files["log"] = str(outcome.folder / LOG)
    yield Figures([(name, text) for name, text in files.items() if text])
