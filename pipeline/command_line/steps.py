"""Keeps the output of libraries from the terminal while a command works, and shows its steps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from imgpipe.models import progress
from imgpipe.pipeline.command_line import console as consoles
from imgpipe.pipeline.output import temporary_files

if TYPE_CHECKING:
    from rich.console import Console


@contextlib.contextmanager
def quiet(to_stderr: bool = False) -> Iterator[Console]:
    """Write the output of libraries to a log that is removed afterwards; see `console.quiet`."""
    with temporary_files.folder() as folder, consoles.quiet(folder / "log", to_stderr) as console:
        yield console


@contextlib.contextmanager
def counted(to_stderr: bool) -> Iterator[consoles.Display]:
    """Display the steps of a command with what the code below counts with `models.progress`.

    Args:
        to_stderr: Whether they are printed to standard error instead of standard output.

    Yields:
        The display, whose `step` shows a step.
    """
    with (
        quiet(to_stderr) as console,
        consoles.Display(console) as display,
        progress.shown_by(display),
    ):
        yield display
