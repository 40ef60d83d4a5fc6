"""Prints the blocks of `report.blocks` on the terminal, which shows no pictures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from imgpipe.components.common.formatting import count, share
from imgpipe.components.report import blocks as show
from imgpipe.pipeline.command_line.terminal import escape

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {
    "strong": "bold",
    "muted": "dim",
    "good": "green",
    "bad": "red",
    "warn": "yellow",
    "sentence": "bold",
}
_NAME = 8  # least width of the names of figures
_WIDEST = 10_000  # characters of a line of a table that no terminal shows


def print_blocks(console: Console, blocks: Iterable[show.ResultBlock]) -> None:
    """Print the blocks that are text."""
    for block in blocks:
        if isinstance(block, show.Heading):
            console.print(f"\n[bold]{_markup(block.words)}[/]")
        elif isinstance(block, show.Sentence):
            console.print(f"[{_STYLES.get(block.look, 'default')}]{_markup(block.words)}[/]")
        elif isinstance(block, show.Listed):
            for item in block.points:
                console.print(f"  {_markup(item)}")
        elif isinstance(block, show.Figures):
            lengths = [len(name if isinstance(name, str) else name.text) for name, _ in block.rows]
            for (name, value), length in zip(block.rows, lengths, strict=True):
                space = " " * (max([_NAME, *lengths]) - length)
                console.print(f"  {_markup(name)}{space} {_markup(value)}")
        elif isinstance(block, show.Table):
            _print_table(console, block)


def _print_table(console: Console, block: show.Table) -> None:
    """Print a table below its caption. Where no terminal shows it, no cell is wrapped."""
    from rich.measure import Measurement
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    first_row = block.rows[0] if block.rows else block.columns
    for title, cell in zip(block.columns, first_row, strict=True):
        is_number = cell is None or isinstance(cell, int | float)
        table.add_column(escape(title), justify="right" if is_number else "left")
    for cells in filter(None, (*block.rows, block.total)):
        table.add_row(*map(_markup, cells))
    if not console.is_terminal:
        unlimited = console.options.update(width=_WIDEST)
        table.width = Measurement.get(console, unlimited, table).maximum
    if block.caption:
        console.print(f"[dim]{escape(block.caption)}[/]")
    console.print(table)


def _markup(content: show.TableCell) -> str:
    """Return words or a number as Rich's markup."""
    if content is None or isinstance(content, float):
        return share(content)
    if isinstance(content, int):
        return count(content)
    if isinstance(content, str):
        return escape(content)
    if isinstance(content, show.Command):
        return escape(content.text)
    if isinstance(content, show.Span):
        text = escape(content.text)
        return f"[{_STYLES[content.look]}]{text}[/]" if content.look in _STYLES else text
    if isinstance(content, show.MarkedCell):
        return _markup(content.words)
    if isinstance(content, show.Link | show.Picture | show.Bar):
        return ""
    return "".join(map(_markup, content))
