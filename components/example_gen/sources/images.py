"""What listing a source gives: its images, and the reader that has their bytes.

This module does not import TensorFlow, because the command line lists and hashes a source while
the heavy imports load.
"""

from __future__ import annotations

import abc
import collections
import errno
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from imgpipe.components.common.image_row import Problem
from imgpipe.components.example_gen.notes import Notes
from imgpipe.models.files import regular_files
from imgpipe.models.finding import Finding
from imgpipe.models.machine import progress
from imgpipe.models.machine.process import computed_ahead

#: Length of an `Item.key`, which is a SHA-256.
KEY_BYTES: Final = 32
#: Largest size in bytes of a file that is read (256 MiB). Folders of images may contain videos.
BYTE_LIMIT: Final = 1 << 28
_UNREADABLE: Final = "unreadable"  # the problem of an item that no reader has
_HASH_THREADS: Final = 8  # reading waits for the disk, and hashing releases the interpreter lock
_AHEAD: Final = 128  # items that are hashed or wait for their turn


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a source.

    Attributes:
        path: Path relative to the source, with forward slashes; unique.
        label: Name of its class; None when the source gives none.
        split: Split that the source gives; None when it is to be assigned.
        sha256: Hex digest of the content; "" when it is not hashed or not readable.
        group: Images of one group (a person, a film) share a split; None for no group.
        problem: Why the source rejects this item; None if it does not.
        version: Checksum by the store's listing; "" when the content has to be hashed.
        part: Where in a file the image is, in the form of the reader; "" for a file of its own.
    """

    path: str
    label: str | None = None
    split: str | None = None
    sha256: str = ""
    group: str | None = None
    problem: Problem | None = None
    version: str = ""
    part: str = ""

    @classmethod
    def unreadable(cls, path: str, why: str) -> Item:
        """Return an item that the source names and that no reader has."""
        return cls(path, problem=Problem(_UNREADABLE, why))

    def placed(self, label: str | None, split: str | None) -> Item:
        """Return the item in a class and a split; `dataclasses.replace` takes twice as long."""
        kept = (self.sha256, self.group, self.problem, self.version, self.part)
        return Item(self.path, label, split, *kept)

    def key(self, content: str) -> bytes:
        """Fingerprint of everything that determines this item's record.

        Args:
            content: Hash of the content, or the checksum of a store; "" if it cannot be read.
        """
        parts = [self.path, content, self.label, self.split, self.group, self.problem]
        # As JSON, different parts give different texts, and names that are not UTF-8 are escaped.
        return hashlib.sha256(json.dumps(parts).encode()).digest()


class Reader(abc.ABC):
    """Has the bytes of the items of a source. Readers can be pickled, for the workers of Beam."""

    def read(self, item: Item) -> bytes:
        """Read the content of an item.

        Raises:
            OSError: The content cannot be read; it says why.
        """
        if item.problem is not None and item.problem.reason == _UNREADABLE:
            raise OSError(item.problem.detail)
        return self._read(item)

    @abc.abstractmethod
    def _read(self, item: Item) -> bytes:
        """Read an item that the source has; see `read`."""

    def digest(self, item: Item) -> str:
        """Return the SHA-256 (hex) of the content of an item; raises as `read` does."""
        return hashlib.sha256(self.read(item)).hexdigest()


@dataclass(frozen=True)
class FileReader(Reader):
    """Reads files below a folder, and parts of files, `begin:length:file`.

    Attributes:
        root: The folder; "" where parts name whole paths.
        follow_links: Whether files outside of it are read to which links lead.
    """

    root: str
    follow_links: bool = False

    def folder(self) -> Path:
        """Return the folder in which the files are now."""
        return Path(self.root)

    def _read(self, item: Item) -> bytes:
        """Read a file or a part of one; see `Reader.read`."""
        if not item.part:
            return regular_files.read_bytes(self._file(item.path), BYTE_LIMIT)
        begin, length, name = item.part.split(":", 2)
        return read_part(self.folder() / name, int(begin), int(length))

    def digest(self, item: Item) -> str:
        """Hash a file piece by piece; see `Reader.digest`."""
        if item.part or item.problem:
            return super().digest(item)
        return regular_files.sha256(self._file(item.path), BYTE_LIMIT)

    def _file(self, path: str) -> Path:
        root = self.folder()
        if not self.follow_links:
            check_inside(root / path, root)
        return root / path


def check_inside(file: Path, root: Path) -> None:
    """Raise an OSError if links lead from `file` out of `root`, or no file can have this path."""
    try:
        target = os.path.realpath(file)
        inside = Path(target).is_relative_to(os.path.realpath(root))
    except ValueError as error:
        raise OSError(errno.EINVAL, f"no file can have this path ({error})") from None
    if not inside:
        raise OSError(
            errno.EPERM,
            f"is a link to {target!r}, outside of the data source; use "
            "--set data.follow_links=true to read it",
        )


def read_part(file: Path, begin: int, length: int) -> bytes:
    """Read some bytes of a file; one that has fewer is an OSError."""
    with file.open("rb") as stream:
        data = os.pread(stream.fileno(), length, begin)
    if len(data) < length:
        raise OSError(f"the file is cut off: {len(data):,} of {length:,} bytes")
    return data


@dataclass
class Listing:
    """What the reader of one kind of source has found, before the rules of all kinds.

    Attributes:
        source: The source, for messages.
        reader: Reads the items.
        expected: What such a source should hold, for messages.
        second: How a second class is added, for messages; `{name}` is the only class.
        items: The items, in any order.
        classes: Names of classes that the source has besides those of the items.
        notes: What is not read.
    """

    source: str
    reader: Reader
    expected: str
    second: str = "add rows with another label, of what is no {name}"
    items: list[Item] = field(default_factory=list)
    classes: set[str] = field(default_factory=set)
    notes: Notes = field(default_factory=Notes)


@dataclass(frozen=True)
class Images:
    """The images of a source at one moment.

    Attributes:
        source: The source, for messages.
        items: The images, sorted by path.
        classes: Names of the classes, in sorted order.
        given_splits: Splits that the source itself names.
        findings: What is not read, one finding for each reason.
        reader: Reads the items.
        fingerprint: Hex SHA-256 of all `Item.key`s; "" before `hashed`.
    """

    source: str
    items: Sequence[Item]
    classes: tuple[str, ...]
    given_splits: tuple[str, ...]
    findings: tuple[Finding, ...]
    reader: Reader
    fingerprint: str = ""

    def counts(self) -> dict[str, int]:
        """Return the number of files of each class, before any check."""
        seen = collections.Counter(item.label for item in self.items)
        return {name: seen[name] for name in self.classes}

    def groups(self) -> int:
        """Return the number of different groups."""
        return len({item.group for item in self.items if item.group is not None})

    def hashed(self) -> Images:
        """Hash all contents of which no store gives a checksum; what cannot be read has no hash."""

        def with_hash(item: Item) -> Item:
            if item.version:
                return item
            try:
                return replace(item, sha256=self.reader.digest(item))
            except OSError:
                return item

        progress.total(len(self.items), "files")
        items = []
        for item in computed_ahead(with_hash, self.items, _HASH_THREADS, _AHEAD):
            items.append(item)
            progress.advance(1, "files")
        keys = fingerprint(item.key(item.version or item.sha256) for item in items)
        return replace(self, items=items, fingerprint=keys)


def fingerprint(keys: Iterable[bytes]) -> str:
    """Hex SHA-256 of all `Item.key`s, or of several joined, independent of their order."""
    import numpy as np

    joined = bytearray()  # `join` would hold an object for each key
    for key in keys:
        joined += key
    table = np.frombuffer(joined, f"S{KEY_BYTES}")
    table.sort()  # in place: `joined` is the memory of the table
    return hashlib.sha256(table.data).hexdigest()
