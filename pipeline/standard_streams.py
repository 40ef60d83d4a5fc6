"""Standard output and error that cannot change the outcome of a command.

A reader that goes away (``imgpipe run | head -1``), a descriptor that is closed (``>&-``) or an
encoding without "→" concerns what is shown. The run is the same, and so is its exit code.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO


class _Lossy(io.FileIO):
    """A file that drops what cannot be written, and remembers why."""

    error: OSError | None = None

    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            self.error = error
            return memoryview(data).nbytes  # type: ignore[arg-type]


def prepare() -> None:
    """Replace ``sys.stdout`` and ``sys.stderr`` by streams that never raise, on open descriptors.

    A closed descriptor is opened on the null device first: the next file that is opened, such as
    a database, would get its number, and everything printed would be written into it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    sys.stdout = open_text(1, getattr(sys.stdout, "encoding", None))
    sys.stderr = open_text(2, getattr(sys.stderr, "encoding", None))


def failure(stream: TextIO) -> OSError | None:
    """Why a stream of this module dropped something, None when it did not."""
    return getattr(getattr(getattr(stream, "buffer", None), "raw", None), "error", None)


def open_text(descriptor: int, encoding: str | None = None, close: bool = False) -> TextIO:
    """A text stream on a descriptor that drops what cannot be written.

    Args:
      descriptor: an open file descriptor.
      encoding: of the stream, UTF-8 by default. Characters it lacks are written as escapes.
      close: whether closing the stream closes the descriptor.
    """
    raw = _Lossy(descriptor, "w", closefd=close)
    buffered = io.BufferedWriter(raw)
    return io.TextIOWrapper(
        buffered, encoding or "utf-8", errors="backslashreplace", line_buffering=True
    )
