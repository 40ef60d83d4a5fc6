"""`imgpipe check`: inspects the data without training anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.errors import DataRefused
from imgpipe.pipeline.command_line import options, output_files

if TYPE_CHECKING:
    from imgpipe.components.report.blocks import ResultBlock
    from imgpipe.pipeline.data_check import CheckedSource

app = typer.Typer()

_EXAMPLES = """Examples:\n
  imgpipe check photos\n
  imgpipe check photos.zip --html page.html\n
  imgpipe check photos --out imgpipe-out\n
  imgpipe check log:logs/requests\n
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
    from imgpipe.pipeline.command_line import console as consoles
    from imgpipe.pipeline.command_line.printing import show_result
    from imgpipe.pipeline.configuration.given_settings import assigned, configuration, one_source
    from imgpipe.pipeline.data_check import examine

    built = configuration(one_source(config, preset), data, out, assigned(settings or []))
    to_stderr = json_file == output_files.STANDARD_OUTPUT
    examined = examine(built, to_stderr)
    if html_file is not None:
        with consoles.counted(to_stderr) as display, display.step("reading images for the page"):
            output_files.write(html_file, examined.html(), "--html ")
    show_result(_blocks(examined, html_file), examined.summary(), json_file)
    if examined.refused:
        raise typer.Exit(DataRefused.exit_code)


def _blocks(examined: CheckedSource, page: Path | None) -> Iterator[ResultBlock]:
    """Yield the findings, the kept images of each class, the verdict, and how to see the images."""
    from imgpipe.components.report.blocks import Figures, Heading, Listed, Sentence, Span
    from imgpipe.components.report.sections.images import class_counts
    from imgpipe.pipeline.command_line import printing

    data = examined.data
    yield printing.listed(data["findings"])
    yield Sentence("")
    yield from class_counts(data, examined.scan.vocabulary)
    yield printing.notes(data["findings"])
    yield printing.deciding(data["findings"])
    yield Heading(Span(examined.verdict, "warn" if examined.refused else "good"))
    yield Listed(examined.reasons())
    images = examined.images
    if page is not None:
        yield Figures([("page", str(page))])
    elif images.rejected or images.repaired or images.warned:
        yield Listed(["to see these images, add: --html check.html"])
