"""The lock of an output folder, which one run or one command that changes the folder holds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock

from imgpipe.models.errors import ResourceError

LOCK = ".lock"


@contextlib.contextmanager
def locked(out: Path, busy: str) -> Iterator[None]:
    """Hold the lock during the block; the system frees it if the process dies.

    Args:
        out: Output folder of the runs.
        busy: What to say if another process holds the lock.

    Raises:
        ResourceError: Another process holds the lock.
        OSError: The lock cannot be written.
    """
    try:
        # A lock of the system instead of a file that exists or not, which a killed run would leave.
        held = filelock.FileLock(out / LOCK).acquire(timeout=0)
    except filelock.Timeout:
        raise ResourceError(busy) from None
    with held:
        yield
