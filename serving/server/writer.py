"""The one thread that writes what stands beside answers: the log, and the request log.

A disk or a terminal that stalls would otherwise hold up the requests. What finds no place in the
queue, or cannot be written, is dropped and counted, and a line of the log says how much.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import TextIO

_log = logging.getLogger(__name__)
_MOST = 1000
"""Lines and records that wait."""
MOST_BYTES = 32 << 20
"""Size of all records that wait."""
_TELL_S = 10.0
"""Seconds between two lines about what was dropped."""


class Writer:
    """Writes in its own thread, in the order in which it is told to."""

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[Callable[[], object], int] | None] = queue.Queue(_MOST)
        self._bytes = 0
        self._lock = threading.Lock()
        self.dropped = 0
        """Number of lines and records that were not written."""
        self._told = 0
        self._tell_at = 0.0
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
        self._thread.start()

    def put(self, write: Callable[[], object], size: int = 0) -> None:
        """Call `write`, which holds `size` bytes of memory, soon, unless too much waits already.

        An OSError of it means that it could not write.
        """
        with self._lock:
            if self._bytes + size > MOST_BYTES:
                self.dropped += 1
                return
            try:
                self._queue.put_nowait((write, size))
            except queue.Full:
                self.dropped += 1
                return
            self._bytes += size

    def _work(self) -> None:
        while True:
            task = self._queue.get()
            if task is None:
                return
            write, size = task
            why = "the disk or standard error is slow"
            try:
                write()
            except OSError as error:
                why = str(error)
                with self._lock:
                    self.dropped += 1
            with self._lock:
                self._bytes -= size
            del write, task  # which may hold the content of a request
            self._tell(why)

    def _tell(self, why: str) -> None:
        dropped = self.dropped
        if dropped == self._told or time.monotonic() < self._tell_at:
            return
        self._tell_at = time.monotonic() + _TELL_S
        _log.warning("%d records or lines were not written: %s", dropped - self._told, why)
        self._told = dropped

    def close(self, seconds: float) -> None:
        """Write what waits, for at most some seconds."""
        try:
            self._queue.put(None, timeout=seconds)
        except queue.Full:
            return  # the thread ends with the process
        self._thread.join(seconds)


class LineHandler(logging.Handler):
    """Hands the lines of the log to a writer."""

    def __init__(self, writer: Writer, stream: TextIO) -> None:
        super().__init__()
        self._writer = writer
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        """Format a line here, since its values may change, and let the writer write it."""
        line = self.format(record) + "\n"

        def write() -> None:
            self._stream.write(line)
            self._stream.flush()

        self._writer.put(write)
