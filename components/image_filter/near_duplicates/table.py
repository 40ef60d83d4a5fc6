"""The hashes of a whole set in files: one for each column, in the order of the contents.

One worker writes the table; its memory does not grow with the number of images, because it divides
the images into buckets by the first byte of their content hash, and sorts one bucket at a time.
Content hashes are evenly distributed, so all buckets are about equally large. Afterwards every
worker can map the one or two columns that it needs. The order of the rows depends on the set of
images alone, and byte-identical images have one row.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imgpipe.components.image_file.perceptual_hash import BYTES, GREY_BYTES, KINDS
from imgpipe.components.image_filter.near_duplicates.search import Hashes

HASH_BYTES = BYTES  # length of a SHA-256, which is that of a perceptual hash
#: Bytes of the columns of a row: the content hash, the perceptual hashes and the grey image.
WIDTHS = (HASH_BYTES,) * (1 + KINDS) + (GREY_BYTES,)
COLUMNS = len(WIDTHS)
GREY = COLUMNS - 1  # number of the column of grey images
_REPEATED = "repeated"  # name of the file with the hashes of contents that several images have
_BUCKETS = 256
ROWS_AT_ONCE = 1024
PENDING_BYTES = 1 << 24  # bytes that are read before they are divided into the buckets

Column = npt.NDArray[np.uint8]  # [n, width]


@dataclass(frozen=True)
class Table:
    """A table that was written.

    Attributes:
        uri: Folder of the files.
        rows: Number of images that can be compared.
    """

    uri: str
    rows: int

    def column(self, number: int) -> Column:
        """Map a column: content hashes (0), one kind of hashes, or the grey images (`GREY`).

        A column in an object store is copied to a temporary file first.

        Returns:
            uint8 [rows, width].
        """
        return self._mapped(str(number), WIDTHS[number])

    def hashes(self) -> Hashes:
        """Return the hashes for the search; each column is mapped when it is read."""
        grey = functools.cache(lambda: self.column(GREY))
        return Hashes(lambda number: self.column(number + 1), grey)

    def repeated(self) -> Column:
        """Return the contents of which there are several images, uint8 [n, HASH_BYTES]."""
        return self._mapped(_REPEATED, HASH_BYTES)

    def rows_at(self, positions: npt.NDArray[np.int64]) -> Iterator[Column]:
        """Read some rows, about a thousand at a time: uint8 [m, sum(WIDTHS)].

        Each column is mapped only while it is read. Rows all over the files would otherwise bring
        whole files into memory.
        """
        with self._local(map(str, range(COLUMNS))) as folder:
            for start in range(0, len(positions), ROWS_AT_ONCE):
                some = positions[start : start + ROWS_AT_ONCE]
                columns = (_map(folder / str(n), width)[some] for n, width in enumerate(WIDTHS))
                yield np.concatenate(list(columns), axis=1)

    @contextlib.contextmanager
    def _local(self, names: Iterable[str]) -> Iterator[Path]:
        """Return the folder of some files; those of an object store are copied to this machine."""
        if "://" not in self.uri:
            yield Path(self.uri)
            return
        import tensorflow as tf

        with tempfile.TemporaryDirectory(prefix="imgpipe-columns-") as folder:
            for name in names:
                tf.io.gfile.copy(f"{self.uri}/{name}", f"{folder}/{name}")
            yield Path(folder)

    def _mapped(self, name: str, width: int) -> Column:
        with self._local([name]) as folder:
            return _map(folder / name, width)  # the mapping stays valid after a copy was removed


def write(shards: Iterable[tuple[bytes, bytes]], uri: str) -> Table:
    """Write a table.

    Args:
        shards: For each shard, the rows of its images (content hash and perceptual hashes of those
            that can be compared, as `matching.row` returns them), and the content hashes of all.
        uri: Folder in which a folder of the table is created. Its name is unique, so that several
            attempts do not disturb each other.
    """
    name = f"near-{uuid.uuid4().hex}"
    with tempfile.TemporaryDirectory(prefix="imgpipe-rows-") as work:
        remote = "://" in uri
        folder = Path(work) / name if remote else Path(uri) / name
        folder.mkdir(parents=True)
        rows = _Buckets(Path(work) / "rows", sum(WIDTHS))
        contents = _Buckets(Path(work) / "contents", HASH_BYTES)
        for some_rows, some_contents in shards:
            rows.add(some_rows)
            contents.add(some_contents)
        count = _write_columns(rows, folder)
        _write_repeated(contents, folder)
        if remote:
            _publish(folder, f"{uri}/{name}")
    return Table(f"{uri}/{name}", count)


def _map(file: Path, width: int) -> Column:
    if not file.stat().st_size:  # an empty file cannot be mapped
        return np.empty((0, width), np.uint8)
    return np.memmap(file, np.uint8, "r").reshape(-1, width)


def _publish(folder: Path, uri: str) -> None:
    import tensorflow as tf

    tf.io.gfile.makedirs(uri)
    for file in folder.iterdir():
        tf.io.gfile.copy(str(file), f"{uri}/{file.name}", overwrite=True)


def _write_columns(buckets: _Buckets, folder: Path) -> int:
    """Append the buckets to one file for each column, and return the number of rows."""
    count, ends = 0, np.cumsum(WIDTHS)[:-1]
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context((folder / str(n)).open("wb")) for n in range(COLUMNS)]
        for bucket in buckets.read():
            # Sorts the rows by content, and keeps one of each.
            first = np.unique(_keys(bucket[:, :HASH_BYTES]), return_index=True)[1]
            count += len(first)
            for file, column in zip(files, np.split(bucket[first], ends, axis=1), strict=True):
                file.write(column.tobytes())
    return count


def _write_repeated(buckets: _Buckets, folder: Path) -> None:
    with (folder / _REPEATED).open("wb") as file:
        for contents in buckets.read():
            _, first, times = np.unique(_keys(contents), return_index=True, return_counts=True)
            file.write(contents[first[times > 1]].tobytes())


def _keys(contents: Column) -> npt.NDArray[np.bytes_]:
    return np.ascontiguousarray(contents).view(f"S{HASH_BYTES}")[:, 0]


class _Buckets:
    """Rows divided by their first byte into files, which sort like the rows."""

    def __init__(self, folder: Path, width: int) -> None:
        self._folder, self._width = folder, width
        self._pending: list[bytes] = []
        self._size = 0
        folder.mkdir()

    def add(self, rows: bytes) -> None:
        """Add some rows of `width` bytes."""
        self._pending.append(rows)
        self._size += len(rows)
        if self._size >= PENDING_BYTES:
            self._divide()

    def read(self) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield the rows of each bucket that has some, uint8 [n, width]."""
        self._divide()
        for number in range(_BUCKETS):
            file = self._file(number)
            if file.exists():
                yield np.fromfile(file, np.uint8).reshape(-1, self._width)
                file.unlink()

    def _file(self, number: int) -> Path:
        return self._folder / str(number)

    def _divide(self) -> None:
        table = np.frombuffer(b"".join(self._pending), np.uint8)
        table = table.reshape(-1, self._width)
        self._pending, self._size = [], 0
        table = table[np.argsort(table[:, 0], kind="stable")]
        ends = np.searchsorted(table[:, 0], np.arange(_BUCKETS), side="right")
        for number, rows in enumerate(np.split(table, ends[:-1])):
            if len(rows):
                with self._file(number).open("ab") as file:
                    file.write(rows.tobytes())
