"""Scratch arrays: in memory when small, otherwise in a temporary file that is then removed."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

#: Bytes of an array kept in memory; more goes to disk, where the system keeps what it has room for.
IN_MEMORY: Final = 1 << 30


@contextlib.contextmanager
def scratch_array(shape: tuple[int, ...], kind: npt.DTypeLike) -> Iterator[npt.NDArray[Any]]:
    """Returns an array of the given shape and number type, to be filled by the caller.

    The file lies in the system's folder for temporary files (TMPDIR).
    """
    size = np.prod(shape, dtype=np.int64) * np.dtype(kind).itemsize
    if size <= IN_MEMORY:
        yield np.empty(shape, kind)
        return
    with tempfile.TemporaryFile(prefix="imgpipe-") as file:
        yield np.memmap(file, kind, "w+", shape=shape)
