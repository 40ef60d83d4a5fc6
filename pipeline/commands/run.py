"""``imgpipe run``: runs the pipeline, from images to a blessed, published model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import escape

if TYPE_CHECKING:
    from imgpipe.pipeline.configuration.config import Config

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
            help="Minutes for trying to improve the first, quick model; 0 skips this. Default: 0 "
            "for up to 500 images to learn from, 3 for up to 2,000 images, and 15 for more.",
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
        json_file: File for the summary, ``-`` for standard output, None for no file.
        start: Component from which on cached outputs are not used, None to use all.
        accept: Whether anomalies, drift and skew of the data are accepted.

    Returns:
        The exit code.

    Raises:
        ImgpipeError: The run could not start.
    """
    from imgpipe.pipeline import component_names

    if start is not None:  # before imports that take time
        start = component_names.find(start)
    from imgpipe.components.report import verdict
    from imgpipe.components.report.text import aside, serve_command
    from imgpipe.pipeline.execution import without_effect
    from imgpipe.pipeline.execution.pipeline_run import execute

    console = output_files.console_beside(json_file)
    for note in without_effect.notes(config):
        console.print(f"note: {escape(note)}")
    outcome = execute(config, start, json_file == output_files.STANDARD_OUTPUT, accept)
    colour = _COLOURS.get(outcome.exit_code, "red")
    if outcome.repeated:
        console.print(f"nothing has changed since the run {escape(outcome.folder.name)}")
    console.print(f"\n[bold {colour}]{escape(outcome.verdict, lines=True)}[/]")
    for ruling in (outcome.summary["gate"] or {}).get("rulings", []):
        console.print(f"  {'failed' if ruling['reason'] else 'passed'}   {escape(ruling['text'])}")
    console.print(f"  data     {escape(_data(outcome.summary['data']))}")
    for sentence in aside(outcome.summary["data"].get("set_aside", {})):
        console.print(f"           {sentence}")
    push = outcome.summary["push"]
    if push["status"] in ("pushed", "unchanged"):
        state = "unchanged" if push["status"] == "unchanged" else "published"
        console.print(f"  model    {escape(push['path'])} ({state})")
    for heading, text in _training(outcome.summary["training"]):
        console.print(f"  {heading:<8} {escape(text)}")
    for heading, text in verdict.expected_lines(outcome.summary["expected"]):
        console.print(f"  {heading} {escape(text)}")
    for warning in outcome.summary["warnings"]:
        console.print(f"  note     {escape(warning)}")
    if outcome.summary["report"]:
        console.print(f"  report   {escape(outcome.summary['report'])}")
    console.print(f"  summary  {escape(str(outcome.folder / 'summary.json'))}")
    if outcome.freed:
        kept = f"the last {config.run.keep} runs and the published versions (run.keep)"
        size = f"{outcome.freed / 1e6:,.1f} MB of artifacts"
        console.print(f"  removed  {size} that are not needed for {kept}")
    if outcome.exit_code:
        console.print(f"  log      {escape(outcome.summary['log'])}")
    if push["status"] in ("pushed", "unchanged"):
        command = serve_command(push["path"], config.run.name)
        console.print(f"  serve it: {escape(command)}", soft_wrap=True)
    output_files.write_json(outcome.summary, json_file)
    return outcome.exit_code


def _data(data: Mapping[str, Any]) -> str:
    """Count the files that were kept, repaired and rejected."""
    if not data["in"]:
        return "no file was inspected"
    reasons = ", ".join(
        f"{count:,} {reason}" for reason, count in sorted(data["by_reason"].items())
    )
    rejected = f"{data['rejected']:,} in quarantine" + (f" ({reasons})" if reasons else "")
    repaired = f", {data['repaired']:,} repaired" if data["repaired"] else ""
    return f"{data['in']:,} files: {data['kept']:,} kept{repaired}, {rejected}"


def _training(training: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """Yield what was tried, and the result of fine-tuning."""
    from imgpipe.models.search.ways import line_of

    search = (training or {}).get("search") or []
    for row in search:
        yield "tried", line_of(row)
    if training and (ended := (training["search_ended"] or {}).get("text")):
        yield "", ended
    if (fine_tuned := (training or {}).get("fine_tune")) and not search:
        before, after = fine_tuned["head_accuracy"], fine_tuned["accuracy"]
        change = f"validation accuracy {before:.3f} before and {after:.3f} after fine-tuning"
        yield "trained", f"{fine_tuned['trained']}: {change}"
