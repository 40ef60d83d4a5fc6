"""Inspects images in a process of its own, while the libraries of a run are imported.

The import of TFX and Beam takes seconds, in which one core is busy. Meanwhile this process, which
imports TensorFlow alone, fills the inspection cache from the end of the source. ImageExampleGen
reads the source from its start and finds the rest in the cache. What the process has not done, or
a process that has failed, costs nothing but its own time.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass

from imgpipe.components.example_gen.sources import Scan, SourceOptions, open_source

#: Fewest images that are not in the cache, for which it pays to import TensorFlow once more.
_FEWEST = 64
#: Most images whose results are looked up, to estimate how many are not in the cache.
_LOOKED_UP = 1000
#: Images whose results are stored together. A tf.data pipeline for each takes about 50 ms.
_AT_ONCE = 64
#: The imports of the other process, which everything waits for, come first.
_NICE = 5


@dataclass(frozen=True)
class Work:
    """What is inspected, and how; see `inspection.inspect`.

    Attributes:
        source: Source of the images, as `open_source` accepts it.
        options: How the source is read.
        pixel_limit: Largest number of pixels, according to the header, that is decoded.
        store: Folder of the inspection cache on this host.
    """

    source: str
    options: SourceOptions
    pixel_limit: int
    store: str

    def to_json(self) -> str:
        """Convert to JSON."""
        given = (self.source, self.options.to_json(), self.pixel_limit, self.store)
        return json.dumps(given)

    @classmethod
    def from_json(cls, text: str) -> Work:
        """Convert back from `to_json`."""
        source, options, pixel_limit, store = json.loads(text)
        return cls(source, SourceOptions.from_json(options), pixel_limit, store)

    def pays(self, scan: Scan) -> bool:
        """Whether a process of its own pays for these images on this machine.

        Args:
            scan: The images, with the hashes of their contents.
        """
        from imgpipe.components.example_gen.inspection_cache import InspectionCache

        if len(os.sched_getaffinity(0)) < 2 or len(scan.items) < _FEWEST:
            return False
        step = -(-len(scan.items) // _LOOKED_UP)
        hashes = [item.sha256 for item in itertools.islice(scan.items, None, None, step)]
        with InspectionCache(self.store, self.pixel_limit) as cache:
            return step * cache.missing(hashes) >= _FEWEST


class Ahead:
    """The process that works ahead. It ends by itself, or with the process that started it.

    Args:
        work: What it inspects.
    """

    def __init__(self, work: Work) -> None:
        # -P keeps the working directory out of the import path, as it is for `imgpipe` itself.
        command = [sys.executable, "-P", "-m", __name__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
        self._write(work.to_json() + "\n")

    def _write(self, text: str) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):  # it has failed already, which its output tells
                self._process.stdin.write(text)
                self._process.stdin.flush()

    def finish(self, timeout: float) -> int:
        """Wait until all images are inspected.

        Args:
            timeout: Seconds after which `subprocess.TimeoutExpired` is raised.

        Returns:
            Exit status of the process, 0 unless it failed.
        """
        status = self._process.wait(timeout)
        self._close()
        return status

    def stop(self) -> None:
        """End the process. What it has stored so far stays in the cache."""
        self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):  # what was written to it was never read
                self._process.stdin.close()


def _end_with_parent() -> None:
    """End this process when the one that started it closes the pipe, or dies."""
    while os.read(0, 1024):
        pass
    os._exit(0)


def _inspect(work: Work) -> None:
    """Inspect all images, the last ones first."""
    from imgpipe.components.example_gen.inspection import inspect

    source = open_source(work.source, work.options)
    items = source.listing().items
    for end in range(len(items), 0, -_AT_ONCE):
        part = items[max(0, end - _AT_ONCE) : end]
        for _ in inspect(source, part, work.pixel_limit, work.store):
            pass


def main() -> None:
    """Read the work from standard input and do it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started it
    os.nice(_NICE)
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return
        line += byte
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _inspect(Work.from_json(line.decode()))


if __name__ == "__main__":
    main()
