"""`imgpipe check`: inspects the data without training anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.errors import DataRefused
from imgpipe.pipeline.command_line import options, output_files

if TYPE_CHECKING:
    from imgpipe.components.report.blocks import ResultBlock, SpanLook
    from imgpipe.components.run_record.result import Result

app = typer.Typer()

_EXAMPLES = """Examples:\n
  imgpipe check photos\n
  imgpipe check photos.zip --html page.html\n
  imgpipe check photos --out imgpipe-out\n
  imgpipe check photos --set gate.min_train=20 --json -
"""


@app.command(rich_help_panel=options.DATA_AND_TRAINING, epilog=_EXAMPLES)
def check(
    data: Annotated[str, typer.Argument(metavar="DATA", help=options.SOURCE_HELP)],
    config: options.ConfigOption = None,
    preset: options.PresetOption = None,
    out: options.OutOption = None,
    settings: options.SettingsOption = None,
    json_file: options.JsonOption = None,
    html_file: options.HtmlOption = None,
) -> None:
    """Report what a run would reject, repair and warn about, without training."""
    from imgpipe.pipeline import data_check
    from imgpipe.pipeline.command_line import console as consoles
    from imgpipe.pipeline.command_line.printing import show_result
    from imgpipe.pipeline.configuration.given_settings import assigned, configuration, one_source

    built = configuration(one_source(config, preset), data, out, assigned(settings or []))
    with consoles.counted(json_file == output_files.STANDARD_OUTPUT) as display:
        checked = data_check.check(built)
        if html_file is not None:
            with display.step("reading images for the page"):
                output_files.write(html_file, checked.html, "--html ")
    show_result(_blocks(checked.result, html_file), checked.result, json_file)
    if checked.refused:
        raise typer.Exit(DataRefused.exit_code)


def _blocks(result: Result, page: Path | None) -> Iterator[ResultBlock]:
    """Yield the findings, the images by class, the verdict, and how to see the images."""
    from imgpipe.components.report.blocks import Figures, Heading, Listed, Span
    from imgpipe.components.report.other_pages import grounds_of_check
    from imgpipe.components.report.sections import images

    data = result["data"]
    if data is None:
        return
    yield from images.examples(data["findings"])
    yield from images.counted(data)
    yield from images.class_counts(data, result["classes"])
    look: SpanLook = "warn" if result["status"] == "refused" else "good"
    yield Heading(Span(result["verdict"], look))
    yield from grounds_of_check(result)
    if page is not None:
        yield Figures([("page", str(page))])
    elif any(finding["examples"] for finding in data["findings"]):
        yield Listed(["to see these images, add: --html check.html"])
