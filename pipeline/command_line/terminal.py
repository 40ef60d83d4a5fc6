"""Prints text on the terminal: escapes what comes from untrusted data, and wraps between words.

Names of files, classes and columns come from the data. The terminal would interpret escape
sequences in them, newlines would forge lines of output, and Rich would interpret ``[bold]`` as
markup and ``:x:`` as an emoji.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

#: A word with the spaces around it. A command behind a colon is one, so that it can be copied.
_WORD = re.compile(r"\s*(?:(?<=: )imgpipe .*|\S+)\s*")
_HEADING = re.compile(r" *\S+(?: \S+)? {2,}(?=\S)")  # such as "  report   "
_DEEPEST = 1 / 3  # of the width: deepest indentation of the lines after the first


def new_console(stderr: bool = False) -> Console:
    """Return a console without highlighting and emoji, which wraps lines between words.

    Only a terminal is wrapped, where ``soft_wrap=True`` prints a line unchanged, such as a command
    that people copy. A word that is too long for a line, such as a path, stays in one piece.

    Args:
        stderr: Whether it writes to standard error instead of standard output.
    """
    return _console_class()(stderr=stderr, highlight=False, soft_wrap=True, emoji=False)


@functools.cache
def _console_class() -> type[Console]:
    """Return the class of the console, so that Rich is imported only when something is printed."""
    from rich.console import Console
    from rich.text import Text

    class Wrapping(Console):
        def print(self, *objects: Any, soft_wrap: bool | None = None, **options: Any) -> None:
            if self.is_terminal and soft_wrap is None and all(isinstance(o, str) for o in objects):
                lines = self.render_str(" ".join(objects)).split("\n", allow_blank=True)
                objects = (Text("\n").join(wrapped(line, self.width) for line in lines),)
            super().print(*objects, soft_wrap=soft_wrap, **options)

    return Wrapping


def wrapped(line: Text, width: int) -> Text:
    """Wrap a line between words, and indent the lines after the first as far as its text.

    Args:
        line: Text without a newline.
        width: Columns of the terminal.
    """
    from rich.cells import cell_len
    from rich.text import Text

    indent = _indent(line.plain, width)
    breaks, used = [], 0
    for match in _WORD.finditer(line.plain):
        word, whole = cell_len(match.group().rstrip()), cell_len(match.group())
        # A word that is too long for any line is not moved to a line of its own.
        if used and used + word > width and indent + word <= width:
            breaks.append(match.start())
            used = indent
        used += whole
    if not breaks:
        return line
    pieces = list(line.divide(breaks))
    for piece in pieces:
        piece.rstrip()
    return Text("\n" + " " * indent).join(pieces)


def _indent(text: str, width: int) -> int:
    """Return how far the lines after the first are indented: below the text behind a heading."""
    heading = _HEADING.match(text)
    if heading and heading.end() <= width * _DEEPEST:
        return heading.end()
    beginning = re.match(r" *(?:- )?", text)
    return beginning.end() if beginning else 0


def printable(text: str, lines: bool = False) -> str:
    r"""Return the text with unprintable characters escaped as in Python, such as ``\x1b``.

    Args:
        text: Any text, also with lone surrogates, which stand for bytes that are not UTF-8.
        lines: Whether newlines are kept instead of escaped.
    """
    return "".join(
        char
        if char.isprintable() or (lines and char == "\n")
        else char.encode("unicode_escape").decode()
        for char in text
    )


def escape(text: str, lines: bool = False) -> str:
    """Return the text as `printable` does, and escape Rich's markup too."""
    from rich.markup import escape as escape_markup

    return escape_markup(printable(text, lines))
