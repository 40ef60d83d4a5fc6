"""The standard streams and the temporary files of this process.

The streams never raise: a reader that exits early (`imgpipe run | head -1`) or an encoding without
"→" affects only what is printed, neither the run nor its exit code.

The temporary files of a run are below its own folder, and the next run removes them if the process
was killed. Those of other commands are in the system's folder for temporary files.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from imgpipe.models.errors import ResourceError

TEMPORARY_FILES = "tmp"  # folder of the temporary files of a run, below its own folder
#: Only one thread at a time changes where this process writes temporary files. The same thread also
#: redirects the output of the process, and puts back what it found.
_ONE_AT_A_TIME = threading.RLock()


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
    sys.stdout = open_text(1, getattr(sys.stdout, "encoding", None))
    sys.stderr = open_text(2, getattr(sys.stderr, "encoding", None))


def failure(stream: TextIO) -> OSError | None:
    """Return the error for which a stream of this module dropped data, None if it dropped none."""
    return getattr(getattr(getattr(stream, "buffer", None), "raw", None), "error", None)


def open_text(descriptor: int, encoding: str | None = None, close: bool = False) -> TextIO:
    """Open a text stream, by default of UTF-8, that drops data that cannot be written.

    Characters that the encoding lacks are written as escapes. `close` says whether closing the
    stream closes the descriptor.
    """
    raw = _Lossy(descriptor, "w", closefd=close)
    buffered = io.BufferedWriter(raw)
    return io.TextIOWrapper(
        buffered, encoding or "utf-8", errors="backslashreplace", line_buffering=True
    )


@contextlib.contextmanager
def temporary_folder_in(directory: Path) -> Iterator[None]:
    """Have this process and its child processes write temporary files below the folder of a run.

    Its sub-folder `tmp` is removed at the end of the block, for which other threads wait.
    """
    folder = directory / TEMPORARY_FILES
    with _ONE_AT_A_TIME:
        folder.mkdir(mode=0o700)
        # The variable is for child processes and C++, `tempdir` for this process, which has read
        # the variable before.
        variable = os.environ.get("TMPDIR")
        module = tempfile.tempdir
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
        try:
            yield
        finally:
            tempfile.tempdir = module
            os.environ.pop("TMPDIR")
            if variable is not None:
                os.environ["TMPDIR"] = variable
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Create a folder for the temporary files of this process and those it starts.

    Other threads wait until the block ends.

    Yields:
        The folder, which is removed at the end of the block.

    Raises:
        ResourceError: It cannot be created.
    """
    with _ONE_AT_A_TIME:
        try:
            made = tempfile.TemporaryDirectory(prefix="imgpipe-", ignore_cleanup_errors=True)
        except OSError as error:
            raise ResourceError(
                f"cannot create a folder for temporary files: {error.strerror or error}. Free some "
                "space, or set TMPDIR to a folder that can be written."
            ) from None
        with made, temporary_folder_in(Path(made.name)):
            yield Path(made.name)
