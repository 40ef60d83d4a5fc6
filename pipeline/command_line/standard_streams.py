"""Replaces standard output and error by streams that never raise.

A reader that exits early (`imgpipe run | head -1`), a closed descriptor (`>&-`) or an encoding
without "→" affects only what is printed, neither the run nor its exit code.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO


class _Lossy(io.FileIO):
    """A file that drops data that cannot be written, and keeps the error."""

    error: OSError | None = None

    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            self.error = error
            # All of it counts as written; otherwise the buffer would try again and again.
            return memoryview(data).nbytes  # type: ignore[arg-type]


def prepare() -> None:
    """Replace `sys.stdout` and `sys.stderr` by streams that never raise."""
    open_descriptors()
    sys.stdout = open_text(1, getattr(sys.stdout, "encoding", None))
    sys.stderr = open_text(2, getattr(sys.stderr, "encoding", None))


def open_descriptors() -> None:
    """Open the descriptors of the standard streams that are closed on the null device.

    Otherwise the next file that is opened, such as a database, would get such a number, and all
    output would be written into it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one


def failure(stream: TextIO) -> OSError | None:
    """Return the error for which a stream of this module dropped data, None if it dropped none."""
    return getattr(getattr(getattr(stream, "buffer", None), "raw", None), "error", None)


def open_text(descriptor: int, encoding: str | None = None, close: bool = False) -> TextIO:
    """Open a text stream that drops data that cannot be written.

    Args:
        descriptor: An open file descriptor.
        encoding: Encoding, UTF-8 by default. Characters that it lacks are written as escapes.
        close: Whether closing the stream closes the descriptor.
    """
    raw = _Lossy(descriptor, "w", closefd=close)
    buffered = io.BufferedWriter(raw)
    return io.TextIOWrapper(
        buffered, encoding or "utf-8", errors="backslashreplace", line_buffering=True
    )
