"""Prints results on the terminal.

Names of files, classes and columns come from the data. The terminal would interpret escape
sequences in them, newlines would forge lines of output, and Rich would interpret `[bold]` as
markup and `:x:` as an emoji.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from imgpipe.components.common.formatting import count, share
from imgpipe.components.image_filter.findings import not_used
from imgpipe.components.report import blocks as show
from imgpipe.components.report.blocks import Figures, Span
from imgpipe.models.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from imgpipe.components.report.blocks import NamedText, SpanLook
    from imgpipe.models.finding import Finding


#: A command in backticks, a command that ends its line, or a word; with the spaces around it.
_PIECE = re.compile(r"\s*(?:`[^`]+`\S*|(?<![^\s])imgpipe [a-z-]+ .*|\S+)\s*")
#: What begins a line: a name or two and the spaces behind it, such as "  report   ".
_HEADING = re.compile(r" *\S+(?: \S+)? {2,}(?=\S)")
_DEEPEST = 1 / 3  # of the width: the deepest indentation of the lines after the first


def new_console(stderr: bool = False) -> Console:
    """Return a console without highlighting and emoji, which wraps lines at words on a terminal.

    With `soft_wrap=True`, a line is printed as it is. So is every line where no terminal reads it.

    Args:
        stderr: Whether it writes to standard error instead of standard output.
    """
    return _console_class()(stderr=stderr, highlight=False, soft_wrap=True, emoji=False)


@functools.cache
def _console_class() -> type[Console]:
    """Return the class of the console, so that Rich is imported only when something is printed."""
    from rich.console import Console
    from rich.text import Text

    class WrappingConsole(Console):
        def print(self, *objects: Any, soft_wrap: bool | None = None, **options: Any) -> None:
            if soft_wrap is None and all(isinstance(item, str) for item in objects):
                lines = self.render_str(" ".join(objects)).split("\n", allow_blank=True)
                objects = (Text("\n").join(wrapped(line, self) for line in lines),)
            super().print(*objects, soft_wrap=soft_wrap, **options)

    return WrappingConsole


def wrapped(line: Text, console: Console) -> Text:
    """Wrap a line at words if a terminal shows it, below the text behind its heading.

    A command or a path is moved to the next line as a whole, and the terminal breaks it where it
    is longer than a line, so that it can be copied. Of the pieces that no line can hold, only a
    command gets a line of its own: a list of commands has them below each other then.

    Args:
        line: Text without a newline.
        console: Where it is printed.
    """
    from rich.cells import cell_len
    from rich.text import Text

    if not console.is_terminal:
        return line
    indent = _indent(line.plain, console.width)
    breaks: list[int] = []
    used = 0
    for start, piece in _pieces(line.plain):
        width = cell_len(piece.rstrip())
        fits_a_line = indent + width <= console.width
        is_whole = fits_a_line or piece.startswith("imgpipe ")
        if used and used + width > console.width and is_whole:
            breaks.append(start)
            used = indent
        used += cell_len(piece)
    pieces = list(line.divide(breaks))
    for part in pieces[:-1]:
        part.rstrip()
    return Text("\n" + " " * indent).join(pieces)


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """Yield where each piece that stays whole begins, and the piece with the spaces behind it."""
    heading = _HEADING.match(text)
    begin = heading.end() if heading else 0
    if heading:
        yield 0, heading.group()
    if text[begin:].startswith("/"):  # a path, which may contain spaces
        yield begin, text[begin:]
        return
    for match in _PIECE.finditer(text, begin):
        yield match.start(), match.group()


def _indent(text: str, width: int) -> int:
    """Return how far the lines after the first are indented."""
    heading = _HEADING.match(text)
    if heading and heading.end() <= width * _DEEPEST:
        return heading.end()
    beginning = re.match(r" *(?:- )?", text)
    return beginning.end() if beginning else 0


def escape(text: str, lines: bool = False) -> str:
    """Return the text as `printable` does, and escape Rich's markup too."""
    from rich.markup import escape as escape_markup

    return escape_markup(printable(text, lines))


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


#: Words and looks by what happens to the files.
_FATES: Mapping[str, Span] = {
    "rejected": Span("rejected", "bad"),
    "repaired": Span("repaired", "good"),
    "warned": Span("warned", "warn"),
    "not_used": Span("not used", "warn"),
    "noted": Span("noted", "muted"),
}


def listed(findings: Iterable[Finding]) -> Figures:
    """Return each finding that has examples: how many, the first one, what to do."""
    rows: list[NamedText] = []
    for finding in findings:
        if finding["examples"]:
            first = finding["examples"][0]
            example = ": ".join(filter(None, (first["path"], first["detail"])))
            counted = f"{finding['title']:<32} {finding['count']:>8,}  "
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
