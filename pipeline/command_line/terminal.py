"""Prints text on the terminal, and escapes what comes from untrusted data.

Names of files, classes and columns come from the data. The terminal would interpret escape
sequences in them, newlines would forge lines of output, and Rich would interpret `[bold]` as
markup and `:x:` as an emoji.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def new_console(stderr: bool = False) -> Console:
    """Return a console without highlighting, emoji and breaks in lines, which people copy.

    Args:
        stderr: Whether it writes to standard error instead of standard output.
    """
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True, emoji=False)


def printable(text: str, lines: bool = False) -> str:
    r"""Return the text with unprintable characters escaped as in Python, such as `\x1b`.

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
