"""Rows of numbers for training, tables of images or views, and the records that they are read from.

Rows are arrays in memory while they are small, otherwise mapped files. Such a file is an array like
any other, `numpy.memmap`. It lies in the system's folder for temporary files (TMPDIR). What was
read or written is given back to the system at once, so memory does not grow with the number of
rows.

Records are read in the order of the content hashes, however they are distributed over files. So all
that is computed from the rows is the same in each run, and neighbouring rows are a random sample of
the images.
"""

from __future__ import annotations

import itertools
import math
import mmap
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import numpy.typing as npt

from imgpipe.models import names
from imgpipe.models.arrays import Array, Flags, Integers, Names
from imgpipe.models.machine.system import reserve

if TYPE_CHECKING:
    import tensorflow as tf

#: Largest size in bytes of an array that is kept in memory, and of rows that are copied at once.
#: Both are small compared with the gigabyte of TensorFlow and TFX.
IN_MEMORY: Final = 64 << 20
COPIED: Final = 32 << 20
_MOST_BYTES: Final = 128 << 20  # see `blocks`

#: Values of features that a record need not have.
_DEFAULTS: Final = {names.FAMILY: "", names.VIEW: 0}
_VECTORS: Final = (names.PROBABILITIES, names.BASELINE_PROBABILITIES)
_NAMES: Final = (names.IMAGE_HASH, names.FAMILY)
_LABELLED: Final = (names.IMAGE_HASH, names.LABEL_INDEX, names.VIEW, names.FAMILY)
_RECORDS_AT_ONCE: Final = 64
_IMAGES_AT_ONCE: Final = 32  # encoded images, which may be large


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


def record_batches(files: str | Sequence[str], at_once: int) -> tf.data.Dataset:
    """Create a dataset of the serialised records of TFRecord files.

    It yields the same as `tf.data.TFRecordDataset(files).batch(at_once)`, which however traces a
    function for the list of files and rewrites the graph of the dataset. This takes 13 ms, and a
    run reads a hundred files, most of which hold few records.

    Args:
        files: Path of a file, or the paths of several, which are read in this order.
        at_once: Largest number of records in a batch, which is a string tensor [n].
    """
    import tensorflow as tf

    paths = [files] if isinstance(files, str) else list(files)
    with tf.device("cpu"):
        read = tf.raw_ops.TFRecordDataset(
            filenames=tf.constant(paths, tf.string, [len(paths)]),
            compression_type="",
            buffer_size=256 << 10,
        )
        records = tf.data.experimental.from_variant(read, tf.TensorSpec([], tf.string))
        options = tf.data.Options()
        options.autotune.enabled = False  # see `process.untuned`
        options.experimental_optimization.apply_default_optimizations = False
        return records.batch(at_once).with_options(options)


def columns(
    files: Sequence[str], *wanted: str, at_once: int = _RECORDS_AT_ONCE
) -> Iterator[dict[str, Array]]:
    """Yield batches of records, each as a mapping from the feature's name to its column, [m].

    The first batch is empty, so that there are columns of these types without any record.

    Args:
        files: TFRecord files of tf.Examples, which are read in this order; there may be none.
        *wanted: Names of features: numbers, probabilities [m, C], hashes and families as bytes
            of one length, and images and stored features as objects. What a record need not have
            is "" or 0 where it is missing.
        at_once: Largest number of records in a batch.
    """
    import tensorflow as tf

    spec = {name: _feature(name) for name in wanted}
    for records in itertools.chain([tf.constant([], tf.string)], record_batches(files, at_once)):
        batch = {name: part.numpy() for name, part in tf.io.parse_example(records, spec).items()}
        yield batch | {name: batch[name].astype("S") for name in _NAMES if name in batch}


def _feature(name: str) -> Any:
    """Return how a feature is read."""
    import tensorflow as tf

    if name in _VECTORS:
        return tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True)
    if name == names.LABEL_INDEX:
        return tf.io.FixedLenFeature([], tf.int64)
    default = _DEFAULTS.get(name)
    kind = tf.int64 if default == 0 else tf.string
    return tf.io.FixedLenFeature([], kind, default)


@dataclass(frozen=True)
class Labelled(ColumnTable):
    """The labelled records of some files, sorted by the hash of the image and by the view.

    Attributes:
        files: The record files.
        numbers: Number of the record of each row, int64 [n], in the order of the files.
        hashes: Content hash of the image of each row, bytes [n].
        labels: Label index of each row, int64 [n].
        views: Number of the view of each row, int16 [n]; 0 is the image itself.
        families: Name of the family of each row's image, bytes [n], which ImageFilter has found;
            the hash of an image of which none is known.
    """

    files: Sequence[str]
    numbers: Integers
    hashes: Names
    labels: Integers
    views: Integers
    families: Names

    @classmethod
    def read(
        cls, patterns: Sequence[str], most_view: int | None = None, at_most: int | None = None
    ) -> Labelled:
        """Read everything but images and features.

        Args:
            patterns: File patterns of records.
            most_view: Highest view that is wanted; None is all of them.
            at_most: Number of records that are read; None is all of them.
        """
        import tensorflow as tf

        files = sorted(tf.io.gfile.glob(list(patterns)))
        parts: list[dict[str, Array]] = []
        count = 0
        for batch in columns(files, *_LABELLED):
            parts.append(batch)
            count += len(batch[names.VIEW])
            if at_most is not None and count >= at_most:
                break
        column = {name: np.concatenate([part[name] for part in parts]) for name in _LABELLED}
        family = column[names.FAMILY]
        table = cls(
            files,
            np.arange(count),
            column[names.IMAGE_HASH],
            column[names.LABEL_INDEX],
            column[names.VIEW].astype(np.int16),
            np.where(family == b"", column[names.IMAGE_HASH], family),
        )
        wanted = table.labels >= 0
        if at_most is not None:
            wanted[at_most:] = False
        if most_view is not None:
            wanted &= table.views <= most_view
        order = np.lexsort((table.views, table.hashes))
        return table.select(order[wanted[order]])

    def first(self, count: int) -> Labelled:
        """Return the first rows, at most `count`."""
        return self.select(np.arange(len(self)) < count)

    def values(self, name: str) -> Iterator[tuple[Integers, Array]]:
        """Yield row numbers [m] and the values [m] of a feature, in the order of the files."""
        at_once = _IMAGES_AT_ONCE if name == names.IMAGE_BYTES else _RECORDS_AT_ONCE
        row_of = np.full(self.numbers.max(initial=-1) + 1, -1)  # of each record
        row_of[self.numbers] = np.arange(len(self))
        done = 0
        for batch in columns(self.files, name, at_once=at_once):
            here = row_of[done : done + len(batch[name])]
            done += len(batch[name])
            kept = np.flatnonzero(here >= 0)
            if len(kept):
                yield here[kept], batch[name][kept]
            if done >= len(row_of):
                return
