"""Prints the blocks of a result on the terminal: those that its page shows, as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from imgpipe.components.common.formatting import count, share
from imgpipe.components.report import blocks as show
from imgpipe.models.errors import printable
from imgpipe.pipeline.command_line import output_files
from imgpipe.pipeline.command_line.terminal import say

if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod

_STYLES = {
    "strong": "bold",
    "muted": "dim",
    "good": "green",
    "bad": "red",
    "warn": "yellow",
    "sentence": "bold",
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
        if isinstance(block, show.Table):
            _print_table(console, block)
            continue
        if isinstance(block, show.Heading) and number:
            say(console, "")
        for line in _lines(block):
            say(console, line, _is_copied(block))


def _is_copied(content: object) -> bool:
    """Return whether a block or words hold a command or a path, or say what to do."""
    if isinstance(content, show.Command | show.CommandLink):
        return True
    if isinstance(content, show.Span):
        return content.look in ("code", "path")
    if isinstance(content, show.Listed) and content.look == "ways":
        return True
    return isinstance(content, list | tuple) and any(map(_is_copied, content))


def _lines(block: show.ResultBlock) -> Iterator[Text]:
    """Yield the lines of a block; pictures and drawings have none, and a table has its own."""
    if isinstance(block, show.Heading):
        yield _text(block.words, "strong")
    elif isinstance(block, show.Sentence):
        yield _text(block.words, block.look)
    elif isinstance(block, show.Command):
        yield _text(block)
    elif isinstance(block, show.Listed):
        sign = "→ " if block.look == "ways" else ""
        for item in block.points:
            yield Text.assemble("  ", sign, _text(item))
    elif isinstance(block, show.Figures):
        yield from _figures(block)
    elif isinstance(block, show.Cards) and block.cards:  # the first is the worst
        _, lines = block.cards[0]
        yield Text.assemble("  ", Text("  ").join(filter(None, map(_text, lines))))
    elif isinstance(block, show.Folded):
        yield _text(block.summary)
        for inner in block.blocks:
            yield from _lines(inner)


def _figures(block: show.Figures) -> Iterator[Text]:
    """Yield a line for each figure, or one for all key figures."""
    rows = [(_text(name), _text(value)) for name, value in block.rows]
    if block.key and rows:
        yield Text(" · ").join(Text.assemble(name, " ", value) for name, value in rows)
        return
    width = max([_NAME, *(name.cell_len for name, _ in rows)])
    for name, value in rows:
        yield Text.assemble("  ", name, " " * (width - name.cell_len + 2), value)


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
