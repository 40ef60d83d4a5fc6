"""Returns memory that was freed to the operating system."""

from __future__ import annotations

import ctypes


def release_freed_memory() -> None:
    """Return freed memory to the operating system, if the C library has a function for it.

    The C library keeps the memory of many small arrays after they are gone, because holes between
    other arrays might be used again. After the columns of a million records were read, these were
    90 MiB.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)
