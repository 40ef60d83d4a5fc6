"""Prints the blocks of a result, findings among them, on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from imgpipe.components.common.formatting import count, share
from imgpipe.components.image_filter.findings import not_used
from imgpipe.components.report import blocks as show
from imgpipe.components.report.blocks import Figures, Span
from imgpipe.models.errors import printable
from imgpipe.pipeline.command_line import output_files
from imgpipe.pipeline.command_line.terminal import say

if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod

    from imgpipe.components.report.blocks import NamedText, SpanLook
    from imgpipe.models.finding import Finding

_STYLES = {
    "strong": "bold",
    "muted": "dim",
    "good": "green",
    "bad": "red",
    "warn": "yellow",
    "sentence": "bold",
}
#: Words and looks by what happens to the files.
_FATES: Mapping[str, Span] = {
    "rejected": Span("rejected", "bad"),
    "repaired": Span("repaired", "good"),
    "warned": Span("warned", "warn"),
    "not_used": Span("not used", "warn"),
    "noted": Span("noted", "muted"),
}
_NAME = 7  # least width of the names of figures
_WIDEST = 10_000  # characters of a line of a table that no terminal shows


def show_result(
    blocks: Iterable[show.ResultBlock],
    content: Mapping[str, Any] | Sequence[Any],
    json_file: str | None,
) -> None:
    """Print a result, on standard error where standard output carries its JSON, and write that.

    Args:
        blocks: What is printed; see `print_blocks`.
        content: The JSON object or list.
        json_file: Value of `--json`; see `output_files.write_json`.
    """
    print_blocks(output_files.console_beside(json_file), blocks)
    output_files.write_json(content, json_file)


def print_blocks(console: Console, blocks: Iterable[show.ResultBlock]) -> None:
    """Print the blocks that are text."""
    for number, block in enumerate(blocks):
        if isinstance(block, show.Heading):
            if number:
                say(console, "")
            say(console, _text(block.words, "strong"))
        elif isinstance(block, show.Sentence):
            say(console, _text(block.words, block.look))
        elif isinstance(block, show.Listed):
            for item in block.points:
                say(console, Text.assemble("  ", _text(item)))
        elif isinstance(block, show.Figures):
            rows = [(_text(name), _text(value)) for name, value in block.rows]
            width = max([_NAME, *(name.cell_len for name, _ in rows)])
            for name, value in rows:
                space = " " * (width - name.cell_len + 2)
                say(console, Text.assemble("  ", name, space, value))
        elif isinstance(block, show.Table):
            _print_table(console, block)


def _print_table(console: Console, block: show.Table) -> None:
    """Print a table below its caption. Where no terminal shows it, no cell is wrapped."""
    table = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    first_row = block.rows[0] if block.rows else block.columns
    for title, cell in zip(block.columns, first_row, strict=True):
        is_number = cell is None or isinstance(cell, int | float)
        justify: JustifyMethod = "right" if is_number else "left"
        table.add_column(_text(title), justify=justify, overflow="fold")
    for cells in filter(None, (*block.rows, block.total)):
        table.add_row(*map(_text, cells))
    if not console.is_terminal:
        unlimited = console.options.update(width=_WIDEST)
        table.width = Measurement.get(console, unlimited, table).maximum
    if block.caption:
        say(console, _text(block.caption, "muted"))
    console.print(table)


def _text(content: show.TableCell, look: str = "") -> Text:
    """Return words or a number as a text in a look, without links and pictures."""
    style = _STYLES.get(look, "")
    if content is None or isinstance(content, float):
        return Text(share(content), style)
    if isinstance(content, int):
        return Text(count(content), style)
    if isinstance(content, str):
        return Text(printable(content), style)
    if isinstance(content, show.Command | show.CommandLink):
        return Text(printable(content.text), style)
    if isinstance(content, show.Span):
        return Text.assemble(_text(content.text, content.look), style=style)
    if isinstance(content, show.MarkedCell):
        return _text(content.words, look)
    if isinstance(content, show.Link | show.Picture | show.Bar):
        return Text()
    return Text.assemble(*map(_text, content), style=style)


def listed(findings: Iterable[Finding]) -> Figures:
    """Return each finding that has examples: how many, the first one, what to do."""
    rows: list[NamedText] = []
    for finding in findings:
        if finding["examples"]:
            first = finding["examples"][0]
            example = ": ".join(filter(None, (first["path"], first["detail"])))
            counted = f"{finding['count']:,} {finding['title']}  "
            rows.append((_FATES[finding["fate"]], (counted, Span(example, "muted"))))
            rows += _ways(finding)
    return Figures(rows)


def deciding(findings: Sequence[Finding]) -> Figures:
    """Return what belongs above the verdict: what decides, and what was not used."""
    used = [finding for finding in findings if finding["decides"] and finding["fate"] != "not_used"]
    rows = [*_sentences(used, "warn")]
    unused = not_used(findings)
    return Figures([*rows, (_FATES["not_used"], unused)] if unused else rows)


def notes(findings: Iterable[Finding]) -> Figures:
    """Return the sentences of what decides nothing, with what to do."""
    noted = (finding for finding in findings if finding["fate"] == "noted")
    return Figures([*_sentences((finding for finding in noted if not finding["decides"]), "")])


def _sentences(findings: Iterable[Finding], look: SpanLook) -> Iterator[NamedText]:
    for finding in findings:
        if finding["sentence"]:
            yield Span("note", look), finding["sentence"]
            yield from _ways(finding)


def _ways(finding: Finding) -> Iterator[NamedText]:
    return (("", f"→ {way}") for way in finding["remedies"])
