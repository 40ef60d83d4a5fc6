"""Tables with a row for each image, or for each view of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from imgpipe.models.arrays import Array, Flags, Integers
from imgpipe.models.features.rows import take


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
