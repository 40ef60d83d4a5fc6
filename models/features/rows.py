"""Rows of numbers for training, and tables with a row for each image, or for each view of one.

Rows are arrays in memory while they are small, otherwise mapped files. Such a file is an array like
any other, `numpy.memmap`. It lies in the system's folder for temporary files (TMPDIR). What was
read or written is given back to the system at once, so memory does not grow with the number of
rows.
"""

from __future__ import annotations

import math
import mmap
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from imgpipe.models.arrays import Array, Flags, Integers
from imgpipe.models.machine.system import reserve

#: Largest size in bytes of an array that is kept in memory, and of rows that are copied at once.
#: Both are small compared with the gigabyte of TensorFlow and TFX.
IN_MEMORY: Final = 64 << 20
COPIED: Final = 32 << 20
_MOST_BYTES: Final = 128 << 20  # see `blocks`


def empty(count: int, row: tuple[int, ...], kind: npt.DTypeLike) -> Array:
    """Return an array [count, *row] to be filled, in a file if it is larger than `IN_MEMORY`.

    The file has no name, so the system frees it with the array, even if the process is killed.

    Raises:
        OSError: There is no space for the file.
    """
    size = count * math.prod(row) * np.dtype(kind).itemsize
    if size <= IN_MEMORY:
        return np.empty((count, *row), kind)
    with tempfile.TemporaryFile(prefix="imgpipe-") as file:
        # Without its space, a full disk would end the process at a write into the mapped memory.
        reserve(file.fileno(), size)
        return np.memmap(file, kind, "r+", shape=(count, *row))


def mapped(rows: Array) -> bool:
    """Return whether the rows are in a file."""
    return isinstance(rows, np.memmap)


def release(rows: Array) -> None:
    """Give back the memory of rows that were read from a file or written into it."""
    if isinstance(rows, np.memmap):
        rows._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def take(rows: Array, index: Integers) -> Array:
    """Return rows [m, ...] of all rows [n, ...] by their numbers [m], in any order.

    Many rows of a file are copied into another file.

    Raises:
        OSError: There is no space for the file.
    """
    taken = empty(len(index), rows.shape[1:], rows.dtype)
    size = max(COPIED // (math.prod(taken.shape[1:]) * taken.itemsize or 1), 1)
    for first in range(0, len(index), size):
        taken[first : first + size] = rows[index[first : first + size]]
        release(rows)
        release(taken)
    return taken


def blocks(rows: Array, size: int) -> Iterator[tuple[slice, Array]]:
    """Yield all rows in order, block by block.

    Args:
        rows: All rows, [n, ...].
        size: Largest number of rows in a block. It has fewer where a block of float32 numbers would
            take more than 128 MiB, as of feature maps that are not pooled.

    Yields:
        The slice of row numbers and the rows of each block, [at most `size`, ...].
    """
    size = max(1, min(size, _MOST_BYTES // (4 * math.prod(rows.shape[1:]) or 1)))
    for first in range(0, len(rows), size):
        part = slice(first, min(first + size, len(rows)))
        yield part, rows[part]
        release(rows)


@dataclass(frozen=True)
class ColumnTable:
    """Rows in columns.

    The columns of a table are those of its fields that are arrays, [n, ...]. What is no array, such
    as a vocabulary, concerns all rows, and a column that is not known is None.
    """

    @property
    def columns(self) -> dict[str, Array]:
        """The columns by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def select(self, index: Flags | Integers) -> Self:
        """Return some rows, by flags, bool [n], or by their numbers, in their order."""
        numbers = np.flatnonzero(index) if index.dtype == np.bool_ else np.asarray(index, np.int64)
        # Only columns of vectors may be too large for memory.
        selected = {
            name: take(column, numbers) if column.ndim > 1 else column[numbers]
            for name, column in self.columns.items()
        }
        return replace(self, **selected)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return the rows of several tables; a column that is not known in the first one is not."""
        columns = {
            name: np.concatenate([part.columns[name] for part in parts])
            for name in parts[0].columns
        }
        return replace(parts[0], **columns)
