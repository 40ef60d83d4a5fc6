"""The interface of all sources, and the scan with which they end.

This module does not import TensorFlow, because the command line scans and hashes a source while
the heavy imports load.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from imgpipe.components.common.formatting import join_names, plural
from imgpipe.components.example_gen.settings import SourceOptions
from imgpipe.models import names
from imgpipe.models.errors import ConfigError
from imgpipe.models.finding import Finding
from imgpipe.models.machine import progress
from imgpipe.models.machine.process import computed_ahead

#: Length of an `Item.key`, which is a SHA-256.
KEY_BYTES = 32
_HASH_THREADS = 8  # reading waits for the disk, and hashing releases the interpreter lock
_AHEAD = 128  # items that are hashed or wait for their turn
EXPECTED_TREE = (
    "expected a folder with one sub-folder for each class (cats/, dogs/), or train/, validation/ "
    "and test/ folders with such sub-folders"
)
_NUMBERS = {1: "one is", 2: "two are"}


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a source."""

    path: str  # relative to the source's root, with forward slashes; unique
    label: str | None = None  # class name, None when the source gives none
    split: str | None = None  # split that the source gives, None when it is to be assigned
    sha256: str = ""  # hex digest of the content, "" when it is not hashed or not readable
    group: str | None = None  # images of one group (a person, a video) must be in the same split
    problem: str = ""  # "<reason>: <detail>" when the source rejects this item
    version: str = ""  # checksum by the store's listing, "" when the content has to be hashed
    locator: str = ""  # says where the image is stored, in a format of the source

    @property
    def content(self) -> str:
        """Hash of the content, or the checksum of a store that was not read; "" for neither."""
        return self.sha256 or self.version

    def placed(self, label: str | None, split: str | None) -> Item:
        """Return the item in a class and a split; `dataclasses.replace` takes twice as long."""
        kept = (self.sha256, self.group, self.problem, self.version, self.locator)
        return Item(self.path, label, split, *kept)

    def key(self, content: str) -> bytes:
        """Fingerprint of everything that determines this item's record.

        Args:
            content: `Item.content`; "" if the content cannot be read.
        """
        parts = [self.path, content, self.label, self.split, self.group, self.problem]
        # As JSON, different parts give different texts, and names that are not UTF-8 are escaped.
        return hashlib.sha256(json.dumps(parts).encode()).digest()


@dataclass(frozen=True)
class Scan:
    """The content of a source at one moment."""

    source: str
    items: Sequence[Item]  # sorted by path
    vocabulary: tuple[str, ...]  # class names in sorted order
    given_splits: tuple[str, ...] = ()  # splits that the source itself names
    notes: tuple[Finding, ...] = ()  # one for each reason after `ValidatedSource`
    fingerprint: str = ""  # hex SHA-256 of all `Item.key`s, which `ValidatedSource.scan` computes

    def counts(self) -> dict[str, int]:
        """Return the number of files of each class of the vocabulary, before any check."""
        seen = collections.Counter(item.label for item in self.items)
        return {name: seen[name] for name in self.vocabulary}

    def groups(self) -> int:
        """Return the number of different groups."""
        return len({item.group for item in self.items if item.group is not None})


class Source(Protocol):
    """A source of images. Implementations can be pickled, because Beam workers hold one."""

    def listing(self) -> Scan:
        """List all items without reading contents; hashes are empty.

        Raises:
            ConfigError: The source does not exist or is not laid out as expected.
        """
        ...

    def scan(self) -> Scan:
        """List all items, and hash the contents of those that no store gives a checksum of.

        What cannot be read has no hash. It raises as `listing` does.
        """

        def hashed(item: Item) -> Item:
            if item.version:
                return item
            try:
                return dataclasses.replace(item, sha256=self.digest(item))
            except OSError:
                return item

        listing = self.listing()
        progress.total(len(listing.items), "files")
        items = []
        for item in computed_ahead(hashed, listing.items, _HASH_THREADS, _AHEAD):
            items.append(item)
            progress.advance(1, "files")
        return dataclasses.replace(listing, items=items)

    def read(self, item: Item) -> bytes:
        """Read the content of an item of a listing.

        Raises:
            OSError: The content cannot be read.
        """
        ...

    def digest(self, item: Item) -> str:
        """Hex SHA-256 of the content of an item; raises as `read` does."""
        return hashlib.sha256(self.read(item)).hexdigest()


@dataclass(frozen=True)
class SourceKind:
    """One kind of source; a module in this folder lists its kinds in `KINDS`.

    Attributes:
        name: Prefix of a spec, such as "folder" in `folder:PATH`.
        open: Function that opens the source at a locator.
        takes: Function that returns whether a path without prefix is of this kind.
        order: Position in which the kinds are asked whether they take a path without prefix.
        is_path: Whether the locator is a path, not a name.
    """

    name: str
    open: Callable[[str, SourceOptions], Source]
    takes: Callable[[str, SourceOptions], bool] = lambda locator, options: False
    order: int = 0
    is_path: bool = True


def fingerprint(keys: Iterable[bytes]) -> str:
    """Hex SHA-256 of all `Item.key`s, or of several joined, independent of their order."""
    import numpy as np

    joined = bytearray()  # `join` would hold an object for each key
    for key in keys:
        joined += key
    table = np.frombuffer(joined, f"S{KEY_BYTES}")
    table.sort()  # in place: `joined` is the memory of the table
    return hashlib.sha256(table.data).hexdigest()


class NoClasses(ConfigError):
    """A source has fewer classes than are needed: one, or none."""


def listed(
    source: str,
    items: Iterable[Item],
    expected: str,
    least_classes: int = 2,
    notes: Iterable[Finding] = (),
    classes: Iterable[str] = (),
    splits: Iterable[str | None] = (),
) -> Scan:
    """Create the scan of items in any order, with classes and splits besides those of the items.

    Too few classes, no labelled item, or no image for train, unless one class is enough, as for an
    evaluation, are a ConfigError, which says what was expected.
    """
    ordered = sorted(items, key=lambda item: item.path)
    vocabulary = sorted({item.label for item in ordered if item.label}.union(classes))
    all_splits = {item.split for item in ordered}.union(splits)
    given = tuple(split for split in names.SPLITS if split in all_splits)
    if len(vocabulary) < least_classes:
        some_class = f"one class only ({vocabulary[0]})" if vocabulary else "no class"
        number_of_files = plural(len(ordered), "file")
        raise NoClasses(
            f"data source {source!r}: found {some_class} in {number_of_files}, at least "
            f"{_NUMBERS[least_classes]} needed; {expected}"
        )
    if not any(item.label for item in ordered):
        raise ConfigError(
            f"data source {source!r}: found {len(vocabulary)} classes "
            f"({join_names(vocabulary)}) without a single file; {expected}"
        )
    if least_classes > 1 and not all_splits & {names.TRAIN, None}:
        raise ConfigError(
            f"data source {source!r} gives {join_names(given)} but no image for train; "
            "leave the split empty where it is to be assigned"
        )
    return Scan(source, ordered, tuple(vocabulary), given, tuple(notes))
