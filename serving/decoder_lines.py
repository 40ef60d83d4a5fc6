"""Lines that image decoders write to standard error, which name no file and help nobody.

libjpeg prints a line for each file that is damaged, whatever the log level is, and TensorFlow adds
another one. Whoever sent or named the file gets the reason in the answer.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from collections.abc import Iterator

#: The warnings of libjpeg (jerror.h, JWRN_…), and the lines of TensorFlow's file about JPEG.
_OF_DECODERS = re.compile(
    rb"^(?:Corrupt JPEG data|Premature end of JPEG|Inconsistent progression sequence|"
    rb"Invalid SOS parameters|Unknown Adobe color transform|Warning: unknown JFIF|"
    rb"Caution: quantization tables|Application transferred too many)|\bjpeg_mem\.cc:\d+\]"
)
_END_S = 2.0  # to wait for the last lines, unless a child process still holds standard error open


class _Filter:
    """Copies what is written to standard error, without the lines of decoders."""

    def __init__(self) -> None:
        sys.stderr.flush()
        self._error = os.dup(2)
        self._lines, pipe = os.pipe()
        # A thread that waited for room in the pipe might hold the lock that the copying needs.
        os.set_blocking(pipe, False)
        self._thread = threading.Thread(target=self._copy, name="decoder-lines", daemon=True)
        self._thread.start()
        os.dup2(pipe, 2)  # from here on, where the machine could start the thread
        os.close(pipe)

    def _copy(self) -> None:
        with os.fdopen(self._lines, "rb") as lines:
            for line in lines:
                if not _OF_DECODERS.search(line):
                    os.write(self._error, line)
        os.close(self._error)

    def close(self) -> None:
        sys.stderr.flush()
        os.dup2(self._error, 2)  # the end of the pipe
        self._thread.join(_END_S)


_lock = threading.Lock()
_users = 0
_filter: _Filter | None = None


@contextlib.contextmanager
def dropped() -> Iterator[None]:
    """Drop the lines of decoders in the block, of all threads of the process.

    All other lines are written as before. Blocks may overlap in several threads.
    """
    global _users, _filter
    with _lock:
        _users += 1
        _filter = _filter or _Filter()
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users and _filter is not None:
                _filter.close()
                _filter = None
