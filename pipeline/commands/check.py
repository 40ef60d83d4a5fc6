"""`imgpipe check`: inspects the data without training anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.errors import DataRefused
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import escape

if TYPE_CHECKING:
    from rich.console import Console

    from imgpipe.components.source_check import JudgedSource
    from imgpipe.pipeline.images.data_check import ExaminedSource

app = typer.Typer()

_MOST_CLASSES = 12  # of more, the table shows only those with the fewest images
_FEWEST_CLASSES = 5
_NAME_WIDTH = 44  # characters of a class in the table, which fits a terminal of 80 columns
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
    json_file: options.JsonListOption = None,
    html_file: options.HtmlOption = None,
) -> None:
    """Report what a run would reject, repair and warn about, without training."""
    from imgpipe.pipeline.command_line.settings import configuration, one_source
    from imgpipe.pipeline.images.data_check import examine
    from imgpipe.pipeline.images.source import opened_with_classes

    built = configuration(one_source(config, preset), data, out, settings or [])
    opened_with_classes(built)  # before the imports, which take seconds
    examined = examine(built, html_file is not None, json_file == output_files.STANDARD_OUTPUT)
    console = output_files.console_beside(json_file)
    _print(console, examined)
    images = examined.judged.images
    if html_file is not None:
        output_files.write(html_file, examined.page(), "--html ")
        console.print(f"  page     {escape(str(html_file))}")
    elif images.rejected or images.repaired or images.warned:
        console.print("  to see these images, add: --html check.html")
    output_files.write_json(examined.summary(), json_file)
    if examined.refused:
        raise typer.Exit(DataRefused.exit_code)


def _print(console: Console, examined: ExaminedSource) -> None:
    from imgpipe.pipeline.command_line.findings import print_deciding, print_notes, print_rows

    findings = examined.judged.summary["findings"]
    print_rows(console, findings)
    console.print()
    _print_classes(console, examined.judged)
    print_notes(console, findings)
    print_deciding(console, findings)
    colour = "yellow" if examined.refused else "green"
    console.print(f"\n[bold {colour}]{escape(examined.verdict)}[/]")
    for reason in examined.reasons():
        console.print(f"  {escape(reason)}")


def _print_classes(console: Console, judged_source: JudgedSource) -> None:
    """Print the numbers of kept images by class and split; of many classes, the smallest."""
    from rich.cells import set_cell_size

    splits = [
        split for split, counts in judged_source.summary["by_split"].items() if any(counts.values())
    ]
    rows = {
        name: [judged_source.summary["by_split"][split][name] for split in splits]
        for name in judged_source.scan.vocabulary
    }
    totals = [sum(column) for column in zip(*rows.values(), strict=True)]
    last = f"all {len(rows):,} classes"
    if len(rows) > _MOST_CLASSES:
        fewest = sorted(rows, key=lambda name: sum(rows[name]))[:_FEWEST_CLASSES]
        rows = {name: rows[name] for name in fewest}
        last += f", of which the {_FEWEST_CLASSES} smallest are shown"
    width = min(_NAME_WIDTH, max(map(len, [*rows, last])))
    lines = [("class", splits)]
    for name, counts in [*rows.items(), (last, totals)]:
        lines.append((name, [f"{count:,}" for count in counts]))
    for name, cells in lines:
        columns = "".join(f" {cell:>10}" for cell in cells)
        console.print(f"  {escape(set_cell_size(name, width))}{columns}")
