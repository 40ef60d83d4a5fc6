"""A column of content hashes that stores each different hash once, in half of its length.

A hash of 64 hexadecimal digits is stored as the 32 bytes that they stand for, and each row holds
the number of its hash. A bank of millions of rows, several of which show the same image, then needs
4 bytes a row and 32 bytes an image, instead of 64 bytes a row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, Final, overload

import numpy as np
import numpy.typing as npt

_DIGITS: Final = 64  # of the content hashes, which are SHA-256
_BYTES: Final = _DIGITS // 2
_AT_ONCE: Final = 1 << 16  # rows that are compared or hashed at once

Names = npt.NDArray[np.bytes_]
#: Hashes as `shortened` returns them: uint8 [n, 32], or the names themselves, bytes [n].
Short = npt.NDArray[Any]
Numbers = npt.NDArray[np.int32]


class HashColumn:
    """Content hashes of rows. NumPy reads the column as an array of names, bytes [n].

    Names that are not hashes of 64 digits are stored unchanged.

    Args:
        values: The different hashes in ascending order, as `shortened` returns them for all.
        numbers: For each row, the number of its hash in `values`, int32 [n]. Rows with equal
            numbers have equal hashes, and the numbers sort like the hashes.
    """

    def __init__(self, values: Short, numbers: Numbers) -> None:
        self._values, self.numbers = values, numbers

    @classmethod
    def of(cls, names: HashColumn | npt.NDArray[Any]) -> HashColumn:
        """Return the column of some names, bytes [n]."""
        if isinstance(names, HashColumn):
            return names
        return cls.joined([shortened(np.asarray(names, "S"))])

    @classmethod
    def joined(cls, parts: list[Short]) -> HashColumn:
        """Return the column of the rows of all parts.

        Args:
            parts: Results of `shortened`. The list is emptied, so that the memory is free while the
                hashes are sorted.
        """
        short = all(part.ndim == 2 for part in parts if len(part))
        rows = [_sortable(part) if short else _names(part) for part in parts if len(part)]
        parts.clear()
        every = np.concatenate(rows) if rows else np.empty(0, f"S{_BYTES}")
        rows.clear()
        values, numbers = np.unique(every, return_inverse=True)
        return cls(_bytes(values) if short else values, numbers.astype(np.int32))

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self), _AT_ONCE):
            yield from np.asarray(self[start : start + _AT_ONCE]).tolist()

    @overload
    def __getitem__(self, rows: int | np.integer[Any]) -> bytes: ...
    @overload
    def __getitem__(self, rows: slice | npt.NDArray[Any]) -> HashColumn: ...
    def __getitem__(
        self, rows: int | np.integer[Any] | slice | npt.NDArray[Any]
    ) -> bytes | HashColumn:
        """Return the name in a row, or the column of some rows, which shares the hashes."""
        if isinstance(rows, int | np.integer):
            return bytes(self.names(np.asarray([self.numbers[rows]]))[0])
        return HashColumn(self._values, self.numbers[rows])

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Any:
        """Return the names, bytes [n], for NumPy."""
        return np.asarray(self.names(self.numbers), dtype)

    @property
    def nbytes(self) -> int:
        """Number of bytes in memory; columns of one table share the hashes themselves."""
        return self._values.nbytes + self.numbers.nbytes

    def names(self, numbers: npt.NDArray[Any]) -> Names:
        """Return the names of hashes by their numbers.

        Args:
            numbers: Numbers of hashes, int [m].

        Returns:
            The names, bytes [m].
        """
        return _names(self._values[numbers])

    def among(self, wanted: Iterable[bytes]) -> npt.NDArray[np.bool_]:
        """Return for each row whether its hash is one of the wanted ones, bool [n]."""
        return np.isin(self.numbers, self.find(wanted))

    def find(self, wanted: Iterable[bytes]) -> npt.NDArray[np.int64]:
        """Return the numbers of the wanted hashes that the column has.

        Args:
            wanted: Hashes as names.

        Returns:
            Numbers of hashes in ascending order, int64 [m]; wanted hashes that the column does not
            have are left out.
        """
        names = np.array(sorted(set(wanted)), "S")
        if not len(names):
            return np.empty(0, np.int64)
        short = shortened(names)
        if short.ndim != self._values.ndim:  # digits of another number, or no digits
            values = _names(self._values)
        else:
            values, names = _sortable(self._values), _sortable(short)
        positions = np.searchsorted(values, names)
        exists = positions < len(values)
        exists[exists] = values[positions[exists]] == names[exists]
        return positions[exists]

    def compact(self) -> HashColumn:
        """Return the same rows without the hashes that no row has."""
        used, numbers = np.unique(self.numbers, return_inverse=True)
        if len(used) == len(self._values):
            return self
        return HashColumn(self._values[used], numbers.astype(np.int32))

    def grouped(self, group_of: npt.NDArray[Any]) -> HashColumn:
        """Return a column in which each hash is replaced by that of its group.

        Args:
            group_of: For each different hash of the column, in ascending order, the number of the
                hash that represents its group, int [h]. Call `compact` first, so that the column
                has no hash without a row.
        """
        return HashColumn(self._values, group_of.astype(np.int32)[self.numbers])

    def leading(self) -> npt.NDArray[np.int64]:
        """Return the first eight hexadecimal digits of each row's hash as a number, int64 [n]."""
        if self._values.ndim == 1:
            table = np.array([int(name[:8], 16) for name in self._values.tolist()], np.int64)
        else:
            first = np.ascontiguousarray(self._values[:, :4]).view(">u4")[:, 0]
            table = first.astype(np.int64)
        return table[self.numbers]

    def equals(self, other: HashColumn) -> bool:
        """Return whether both columns have the same hashes in the same rows."""
        if len(self) != len(other):
            return False
        blocks = (slice(start, start + _AT_ONCE) for start in range(0, len(self), _AT_ONCE))
        return all(np.array_equal(self[block], other[block]) for block in blocks)

    def digest(self) -> npt.NDArray[np.uint8]:
        """Return a SHA-256 of the hashes in the order of the rows, uint8 [32]."""
        digest = hashlib.sha256()
        for start in range(0, len(self), _AT_ONCE):
            rows = self._values[self.numbers[start : start + _AT_ONCE]]
            digest.update(rows.tobytes() if rows.ndim == 2 else b"\n".join([*rows.tolist(), b""]))
        return np.frombuffer(digest.digest(), np.uint8)


def distinct(column: HashColumn) -> int:
    """Return the number of different hashes in the rows of a column."""
    return len(np.unique(column.numbers))


def shortened(names: Names) -> Short:
    """Return hashes of 64 lower-case hexadecimal digits [n] as uint8 [n, 32].

    Names that are anything else are returned unchanged.
    """
    if names.dtype.itemsize != _DIGITS:
        return names
    digits = names.tobytes()
    try:
        data = bytes.fromhex(digits.decode("ascii"))
    except ValueError:  # covers the errors of decoding, too
        return names
    if data.hex().encode() != digits:  # upper case, or spaces, which fromhex ignores
        return names
    return np.frombuffer(data, np.uint8).reshape(-1, _BYTES)


def _names(short: Short) -> Names:
    """Return what `shortened` shortened."""
    if short.ndim == 1:
        return short
    return np.frombuffer(short.tobytes().hex().encode(), f"S{_DIGITS}")


def _sortable(short: Short) -> Names:
    """Return hashes as one item each, which sorts like their digits.

    NumPy drops bytes of zero at the end of a single item, but compares items as if they had them.
    """
    return short if short.ndim == 1 else np.ascontiguousarray(short).view(f"S{_BYTES}")[:, 0]


def _bytes(values: Names) -> Short:
    """Return what `_sortable` made of hashes of 32 bytes."""
    return np.ascontiguousarray(values).view(np.uint8).reshape(-1, _BYTES)
