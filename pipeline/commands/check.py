"""`imgpipe check`: inspects the data without training anything."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.errors import DataRefused
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import escape

if TYPE_CHECKING:
    from rich.console import Console

    from imgpipe.components.source_check import JudgedSource
    from imgpipe.pipeline.data_check import ExaminedSource

app = typer.Typer()

_STYLES = {"rejected": "red", "repaired": "green", "warned": "yellow", "noted": "dim"}
_MOST_CLASSES = 12  # of more, the table shows only those with the fewest images
_FEWEST_CLASSES = 5
_MOST_REMEDIES = 2  # of one reason, whose files may be of several formats
_NAME_WIDTH = 44  # characters of a class in the table, which fits a terminal of 80 columns
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
    json_file: options.JsonListOption = None,
    html_file: options.HtmlOption = None,
) -> None:
    """Report what a run would reject, repair and warn about, without training."""
    from imgpipe.pipeline.command_line.settings import configuration, one_source
    from imgpipe.pipeline.data_check import examine
    from imgpipe.pipeline.source import require_classes

    built = configuration(one_source(config, preset), data, out, settings or [])
    require_classes(built)  # before the imports, which take seconds
    examined = examine(built, html_file is not None, json_file == output_files.STANDARD_OUTPUT)
    console = output_files.console_beside(json_file)
    _print(console, examined)
    outcomes = examined.judged.outcomes
    if html_file is not None:
        output_files.write(html_file, examined.page(), "--html ")
        console.print(f"  page     {escape(str(html_file))}")
    elif outcomes.rejects or outcomes.repairs or outcomes.warnings:
        console.print("  to see these images, add: --html check.html")
    output_files.write_json(examined.summary(), json_file)
    if examined.refused:
        raise typer.Exit(DataRefused.exit_code)


def _print(console: Console, examined: ExaminedSource) -> None:
    from imgpipe.components.image_filter import file_clues
    from imgpipe.components.image_filter.near_groups import set_aside
    from imgpipe.components.image_filter.summary_sentences import (
        aside,
        family_sentences,
        moves,
        not_served,
    )

    judged = examined.judged
    _print_findings(console, judged)
    _print_classes(console, judged)
    sentences = family_sentences(judged.summary["families"])
    sentences += moves(judged.summary["moved"])
    sentences += aside(set_aside(judged.near or ()))
    sentences += not_served(judged.summary)
    sentences.append(file_clues.remedy(judged.summary["file_clues"]))
    for sentence in filter(None, sentences):
        console.print(f"  {escape(sentence)}")
    unknown = judged.summary["overrides"]["unknown"]
    if unknown:
        console.print(f"  overrides that match no file: {', '.join(key[:12] for key in unknown)}")
    if judged.summary["unused"]:
        console.print(f"  not used: {escape(judged.summary['unused'])}")
    colour = "yellow" if examined.refused else "green"
    console.print(f"\n[bold {colour}]{escape(examined.verdict)}[/]")
    for reason in examined.reasons():
        console.print(f"  {escape(reason)}")


def _print_classes(console: Console, judged: JudgedSource) -> None:
    """Print the numbers of kept images by class and split; of many classes, the smallest."""
    from rich.cells import set_cell_size

    splits = [split for split, counts in judged.summary["by_split"].items() if any(counts.values())]
    rows = {
        name: [judged.summary["by_split"][split][name] for split in splits]
        for name in judged.scan.vocabulary
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


def _print_findings(console: Console, judged: JudgedSource) -> None:
    """Print what happens to files, why, to how many, an example, and what to do."""
    outcomes = judged.outcomes
    fates = {"rejected": outcomes.rejects, "repaired": outcomes.repairs}
    # The worst of each reason is the example.
    fates["warned"] = sorted(outcomes.warnings, key=lambda found: (found.score, found.path))
    for fate, found in fates.items():
        counts = collections.Counter(one.reason for one in found)
        for reason, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
            first = next(one for one in found if one.reason == reason)
            _print_row(console, fate, reason, count, f"{first.path}: {first.detail}")
            remedies = collections.Counter(one.remedy for one in found if one.reason == reason)
            del remedies[""]
            for remedy, _ in remedies.most_common(_MOST_REMEDIES) if fate != "repaired" else ():
                for way in remedy.split("; "):  # a line each, whose commands can be copied
                    console.print(f"          → {escape(way)}")
    for note in judged.summary["notes"]:
        example = ": ".join(filter(None, (note["paths"][0], note["detail"])))
        _print_row(console, "noted", note["kind"], note["count"], example)
    console.print()


def _print_row(console: Console, fate: str, reason: str, count: int, example: str) -> None:
    columns = f"[{_STYLES[fate]}]{fate:<9}[/] {escape(reason):<24} {count:>8,}"
    console.print(f"{columns}  [dim]{escape(example)}[/]")
