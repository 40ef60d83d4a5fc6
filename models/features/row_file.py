"""Arrays of rows for training: in memory while they are small, otherwise in a temporary file.

Training reads the file in chunks of neighbouring rows, so memory does not grow with the number of
rows, and the disk reads in sequence. The file lies in the system's folder for temporary files
(TMPDIR).
"""

from __future__ import annotations

import abc
import itertools
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

#: Largest size in bytes of an array that is kept in memory, and size of a chunk of a file. Both are
#: small compared with the gigabyte of TensorFlow and TFX, so memory barely grows with the rows.
IN_MEMORY: Final = 64 << 20
CHUNK: Final = 32 << 20
#: A chunk of small rows holds at least this many rows, so that shuffling within a chunk mixes
#: enough images, unless these rows would take more than `_ENOUGH_BYTES`.
ENOUGH_ROWS: Final = 4096
_MOST_BYTES: Final = 128 << 20  # see `blocks`
_ENOUGH_BYTES: Final = 192 << 20


class StoredRows(abc.ABC):
    """Rows of one shape that need not be in memory.

    Attributes:
        shape: Shape of all rows, [count, ...].
        dtype: Number type.
        chunk: Number of neighbouring rows that are read at once; all of them while in memory.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: int

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        """Return all rows as an array in memory, [count, ...], for NumPy.

        Raises:
            OSError: As for `read`.
        """
        return np.array(self.read(0, len(self)), dtype)

    @property
    def in_memory(self) -> npt.NDArray[Any] | None:
        """All rows as an array, or None when they are in a file."""
        return None

    @abc.abstractmethod
    def read(self, first: int, stop: int) -> npt.NDArray[Any]:
        """Return neighbouring rows.

        Args:
            first: Number of the first row.
            stop: Number after that of the last row.

        Returns:
            The rows, [stop - first, ...].

        Raises:
            OSError: The temporary file is shorter than expected.
        """

    @abc.abstractmethod
    def gather(self, index: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return rows by their numbers. Rows that lie within one chunk are read at once.

        Args:
            index: Row numbers, int64 [m], in any order.

        Returns:
            The rows in the order of `index`, [m, ...].

        Raises:
            OSError: As for `read`.
        """


class RowFile(StoredRows):
    """An array of rows of one shape. Use it as a context manager, which frees the rows at its end.

    Args:
        count: Number of rows.
        row: Shape of one row.
        kind: Number type of the values.

    Attributes:
        shape: Shape of the whole array, [count, ...].
        dtype: Number type of the values.
        chunk: Number of neighbouring rows that are read at once; all rows while they are in memory.
    """

    def __init__(self, count: int, row: tuple[int, ...], kind: npt.DTypeLike) -> None:
        self.shape, self.dtype = (count, *row), np.dtype(kind)
        self._row = math.prod(row) * self.dtype.itemsize
        self._array: npt.NDArray[Any] | None = None
        self._file: Any = None
        if count * self._row <= IN_MEMORY:
            self._array, self.chunk = np.empty(self.shape, kind), max(count, 1)
        else:
            enough = min(ENOUGH_ROWS, _ENOUGH_BYTES // self._row)
            self.chunk = max(CHUNK // self._row, enough, 1)
            # It has no name, so the system frees it even if the process is killed.
            self._file = tempfile.TemporaryFile(prefix="imgpipe-")  # noqa: SIM115 - see __exit__

    def __enter__(self) -> RowFile:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def in_memory(self) -> npt.NDArray[Any] | None:
        """See `StoredRows.in_memory`."""
        return self._array

    def fill(self, batches: Iterable[tuple[npt.NDArray[np.int64], npt.NDArray[Any]]]) -> None:
        """Store rows that arrive in any order.

        Args:
            batches: Pairs of row numbers, int64 [m], and the rows themselves, [m, ...]. Each row
                number must occur once.

        Raises:
            OSError: The temporary file cannot be written, or is shorter than expected.
        """
        if self._array is None:
            self._fill_file(batches)
            return
        for positions, rows in batches:
            self._array[positions] = rows

    def _fill_file(self, batches: Iterable[tuple[npt.NDArray[np.int64], npt.NDArray[Any]]]) -> None:
        """Append each row to its chunk, then sorts each chunk, so the disk writes in sequence."""
        arrived = np.zeros(-(-len(self) // self.chunk), np.int64)
        offsets = np.empty(len(self), np.int32)  # of each row within its chunk, as rows arrive
        for positions, rows in batches:
            chunks = positions // self.chunk
            for chunk in np.unique(chunks):
                mine = chunks == chunk
                first = chunk * self.chunk + arrived[chunk]
                offsets[first : first + mine.sum()] = positions[mine] - chunk * self.chunk
                self._write(first, rows[mine])
                arrived[chunk] += mine.sum()
        for chunk, count in enumerate(arrived.tolist()):
            first = chunk * self.chunk
            ordered = np.empty((min(self.chunk, len(self) - first), *self.shape[1:]), self.dtype)
            ordered[offsets[first : first + count]] = self.read(first, first + count)
            self._write(first, ordered)

    def _write(self, first: int, rows: npt.NDArray[Any]) -> None:
        data = np.ascontiguousarray(rows, self.dtype).reshape(-1).view(np.uint8).data
        done = 0
        while done < len(data):  # Linux writes at most 2 GiB in one call
            done += os.pwrite(self._file.fileno(), data[done:], first * self._row + done)

    def read(self, first: int, stop: int) -> npt.NDArray[Any]:
        """Read neighbouring rows, [stop - first, ...]; see `StoredRows.read`.

        Raises:
            OSError: The file has fewer rows than were written.
        """
        if self._array is not None:
            return self._array[first:stop]
        rows = np.empty((stop - first, *self.shape[1:]), self.dtype)
        view = rows.reshape(-1).view(np.uint8).data
        done = 0
        while done < len(view):
            count = os.preadv(self._file.fileno(), [view[done:]], first * self._row + done)
            if not count:
                raise OSError(f"expected {len(self)} rows in a temporary file, which ends earlier")
            done += count
        return rows

    def gather(self, index: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """See `StoredRows.gather`."""
        if self._array is not None:
            return self._array[index]
        if not len(index):
            return np.empty((0, *self.shape[1:]), self.dtype)
        first, stop = int(index.min()), int(index.max()) + 1
        if stop - first <= self.chunk:
            near = self.read(first, stop)
            in_order = len(index) == len(near) and bool((np.diff(index) == 1).all())
            return near if in_order else near[index - first]
        if (np.diff(index) > 0).all():  # in ascending order, each chunk is read once
            ends = np.flatnonzero(np.diff(index // self.chunk)) + 1
            found = np.empty((len(index), *self.shape[1:]), self.dtype)
            for start, end in itertools.pairwise([0, *ends.tolist(), len(index)]):
                found[start:end] = self.gather(index[start:end])
            return found
        # Rows in random order are read one by one; most of each whole chunk would not be used.
        return np.concatenate([self.read(position, position + 1) for position in index.tolist()])


class Selection(StoredRows):
    """Some rows of a `RowFile`, which are read when they are needed.

    Args:
        rows: All rows, which must not be freed before.
        index: Numbers of the wanted rows in ascending order, int64 [n].
    """

    def __init__(self, rows: RowFile, index: npt.NDArray[np.int64]) -> None:
        self._rows, self._index = rows, index
        self.shape, self.dtype = (len(index), *rows.shape[1:]), rows.dtype
        self.chunk = rows.chunk

    def read(self, first: int, stop: int) -> npt.NDArray[Any]:
        """See `StoredRows.read`."""
        return self._rows.gather(self._index[first:stop])

    def gather(self, index: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """See `StoredRows.gather`."""
        if not len(index):
            return self._rows.gather(index)
        first, stop = int(index.min()), int(index.max()) + 1
        if stop - first <= self.chunk:
            return self.read(first, stop)[index - first]
        return self._rows.gather(self._index[index])

    def select(self, index: npt.NDArray[np.int64]) -> Selection:
        """Return some of these rows, whose numbers are in ascending order."""
        return Selection(self._rows, self._index[index])


#: An array of rows in memory, or one that may be in a file.
Rows = npt.NDArray[Any] | StoredRows


def selected(rows: Rows, index: npt.NDArray[np.int64]) -> Rows:
    """Return rows by their numbers. Many rows of a file stay in the file.

    Args:
        rows: All rows, [n, ...].
        index: Row numbers in ascending order, int64 [m].

    Returns:
        The rows, [m, ...]: an array, or, where they do not fit into `IN_MEMORY`, a `Selection`.
    """
    if isinstance(rows, RowFile | Selection) and rows.in_memory is None:
        size = len(index) * math.prod(rows.shape[1:]) * rows.dtype.itemsize
        if size > IN_MEMORY:
            return rows.select(index) if isinstance(rows, Selection) else Selection(rows, index)
    return gathered(rows, index)


def gathered(rows: Rows, index: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Return rows by their numbers, from memory or from a file.

    Args:
        rows: All rows, [n, ...].
        index: Row numbers, int64 [m], in any order.

    Returns:
        The rows in the order of `index`, [m, ...].
    """
    return rows.gather(index) if isinstance(rows, StoredRows) else rows[index]


def blocks(rows: Rows, size: int) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
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
        stop = min(first + size, len(rows))
        block = rows.read(first, stop) if isinstance(rows, StoredRows) else rows[first:stop]
        yield slice(first, stop), block
