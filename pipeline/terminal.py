"""Text that comes from data, shown on a terminal as what it is.

Names of files, classes and columns are chosen by others. Escape sequences in them would be carried
out by the terminal, newlines would forge lines of ours, and rich would take ``[bold]`` for markup
and ``:x:`` for an emoji.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def new_console(stderr: bool = False) -> Console:
    """A console that prints lines as they are: not wrapped, not coloured by guess, no emoji."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True, emoji=False)


def printable(text: str, lines: bool = False) -> str:
    r"""Returns the text with characters that do not print escaped as in Python, such as ``\x1b``.

    Args:
      text: any text, also one with lone surrogates, which stand for bytes that are not UTF-8.
      lines: whether line ends stay; they do not in a name.
    """
    return "".join(
        char
        if char.isprintable() or (lines and char == "\n")
        else char.encode("unicode_escape").decode()
        for char in text
    )


def escape(text: str, lines: bool = False) -> str:
    """As `printable`, with nothing left that rich would take for markup."""
    from rich.markup import escape as escape_markup

    return escape_markup(printable(text, lines))
