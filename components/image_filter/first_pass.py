"""What the filter's first pass keeps of a shard, in two small files, and what is searched in them.

Hundreds of bytes a picture wait on disk, not in an engine's memory: copies of files by content, and
rows for the search for near-duplicates. One worker reads them all and says which contents matter;
only the copies of those go through the engine.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from types import TracebackType

from imgpipe.components.image_filter.identical_files import Copy
from imgpipe.components.image_filter.near_duplicates import matching
from imgpipe.components.image_filter.near_duplicates.matching import Found


@dataclass(frozen=True)
class Part:
    """Where the two files of a shard lie."""

    copies: str  # a line of JSON each: content hash, then the fields of a `Copy`
    rows: str  # as `matching.row` gives them, one after the other

    @classmethod
    def below(cls, folder: str, name: str) -> Part:
        """The files of the shard `name`."""
        return cls(f"{folder}/{name}.copies", f"{folder}/{name}.rows")

    def read_copies(self) -> Iterator[tuple[str, Copy]]:
        """(content hash, copy) of its pictures, in the order of the shard."""
        import tensorflow as tf

        with tf.io.gfile.GFile(self.copies, "r") as file:
            for line in file:
                image_hash, *fields = json.loads(line)
                yield image_hash, Copy(*fields)

    def read_rows(self) -> bytes:
        """All of them: 150 kB for a shard of 256 pictures."""
        import tensorflow as tf

        with tf.io.gfile.GFile(self.rows, "rb") as file:
            return bytes(file.read())


class PartWriter:
    """Writes a part; written again, after a failure of the worker say, it is the same."""

    def __init__(self, part: Part) -> None:
        """The folder of `part` is made when absent."""
        import tensorflow as tf

        tf.io.gfile.makedirs(part.copies.rpartition("/")[0])
        self._copies = tf.io.gfile.GFile(part.copies, "w")
        self._rows = tf.io.gfile.GFile(part.rows, "wb")

    def write(self, image_hash: str, copy: Copy, row: bytes) -> None:
        """Add a picture; `row` is b"" for one that cannot be compared."""
        self._copies.write(json.dumps([image_hash, *astuple(copy)]) + "\n")
        self._rows.write(row)

    def __enter__(self) -> PartWriter:
        self._copies.write("")  # makes the file, also when nothing follows
        self._rows.write(b"")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._copies.close()
        self._rows.close()


def search(parts: Sequence[Part], limit: int) -> Iterator[tuple[str, Found | None]]:
    """The contents that matter: those near another, with what is near, and those there are twice.

    `limit`: bits within which pictures are near, 0 to look for none.
    """
    with tempfile.TemporaryDirectory(prefix="imgpipe-rows-") as folder:
        rows = matching.Columns(Path(folder) / "rows")
        contents = []
        for part in parts:
            rows.append([part.read_rows()])
            contents.append(matching.contents(one for one, _ in part.read_copies()))
        found = dict(matching.find_in(rows, limit)) if limit > 0 else {}
    yield from found.items()
    for content in matching.repeated(contents):
        if content.hex() not in found:
            yield content.hex(), None


def copies(part: Part, wanted: Mapping[str, Found | None]) -> Iterator[tuple[str, Copy]]:
    """(content hash, copy) of the contents that matter."""
    for image_hash, copy in part.read_copies():
        if image_hash in wanted:
            yield image_hash, copy
