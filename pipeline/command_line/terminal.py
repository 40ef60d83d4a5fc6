"""Prints text on the terminal: wraps it at words, and escapes what comes from untrusted data.

Names of files, classes and columns come from the data. The terminal would interpret escape
sequences in them, and newlines would forge lines of output. No text is read as Rich's markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from imgpipe.models.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

#: A command in backticks, a command that ends its line, a setting, or a word; with the spaces
#: around it.
_PIECE = re.compile(r"\s*(?:`[^`]+`\S*|(?<![^\s])imgpipe [a-z-]+ .*|--set \S+|\S+)\s*")
#: What begins a line: a name and the spaces behind it, such as "  report   ".
_HEADING = re.compile(r" *\S+(?: \S+)* {2,}(?=\S)")
_DEEPEST = 1 / 3  # of the width: the deepest indentation of the lines after the first


def new_console(stderr: bool = False) -> Console:
    """Return a console that prints texts as they are, without markup, highlighting and emoji.

    Args:
        stderr: Whether it writes to standard error instead of standard output.
    """
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(console: Console, words: str | Text) -> None:
    """Print a text, whose lines are wrapped at words where a terminal shows them.

    Args:
        console: Where it is printed.
        words: A text of which nothing is trusted, or one with styles that is printable.
    """
    from rich.text import Text

    text = Text(printable(words)) if isinstance(words, str) else words
    lines = text.split("\n", allow_blank=True)
    console.print(Text("\n").join(wrapped(line, console) for line in lines), soft_wrap=True)


def wrapped(line: Text, console: Console) -> Text:
    """Wrap a line at words if a terminal shows it, below the text behind its heading.

    A command or a path is moved to the next line as a whole, and the terminal breaks it where it
    is longer than a line, so that it can be copied. Of the pieces that no line can hold, only a
    command gets a line of its own: a list of commands has them below each other then. The line
    has no newline.
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
    begin = heading.end() if heading else len(text) - len(text.lstrip())
    if begin:
        yield 0, text[:begin]
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
