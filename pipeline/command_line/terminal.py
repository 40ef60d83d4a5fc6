"""Prints text on the terminal, and escapes what comes from untrusted data.

Names of files, classes and columns come from the data. The terminal would interpret escape
sequences in them, and newlines would forge lines of output. No text is read as Rich's markup.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imgpipe.models.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def new_console(stderr: bool = False) -> Console:
    """Return a console that prints texts as they are, without markup, highlighting and emoji.

    Args:
        stderr: Whether it writes to standard error instead of standard output.
    """
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(console: Console, words: str | Text, whole: bool = False) -> None:
    """Print a text. Where a terminal shows it, Rich wraps it at words.

    Args:
        console: Where it is printed.
        words: A text of which nothing is trusted, or one with styles that is printable.
        whole: Whether it holds a command or a path, which could not be copied with a newline in it.
    """
    from rich.text import Text

    text = Text(printable(words)) if isinstance(words, str) else words
    console.print(text, soft_wrap=whole or not console.is_terminal)
