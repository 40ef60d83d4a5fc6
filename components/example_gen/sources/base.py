"""The interface of all sources of images: items, scans, notes and options.

This module does not import TensorFlow, because the command line scans and hashes a source while
the heavy imports load.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class SourceOptions:
    """Options that say how a source is read; see [data] in the configuration."""

    classes: tuple[str, ...] = ()  # the allowed labels; empty allows all
    group_pattern: str = ""  # regular expression on the path; its first group names the group
    label_column: str = ""  # name or index from 0 of the column; "" for the usual names
    path_column: str = ""
    split_column: str = ""
    group_column: str = ""
    image_column: str = ""  # feature that holds the encoded image (TFRecord, TFDS)
    root: str = ""  # folder that a manifest's paths start from; "" for the manifest's folder
    follow_links: bool = False  # read files outside of the source that symbolic links lead to
    tfds_dir: str = ""  # data folder of TensorFlow Datasets; "" for its default
    least_classes: int = 2  # with fewer the source is refused; one is enough for an evaluation

    def to_json(self) -> str:
        """Convert to JSON without default values, so that a new option changes no cache key."""
        values = dataclasses.asdict(self).items()
        changed = {name: value for name, value in values if value != getattr(SourceOptions, name)}
        return json.dumps(changed, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> SourceOptions:
        """Convert back from `to_json`."""
        values = json.loads(text or "{}")
        return dataclasses.replace(cls(**values), classes=tuple(values.get("classes", ())))


#: Length of an `Item.key`, which is a SHA-256.
KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a source."""

    path: str  # relative to the source's root, with forward slashes; unique
    label: str | None = None  # class name, None when the source gives none
    split: str | None = None  # split that the source gives, None when it is to be assigned
    symlink: bool = False  # whether the file was reached through a symbolic link
    sha256: str = ""  # hex digest of the content, "" when it is not hashed or not readable
    group: str | None = None  # images of one group (a person, a video) must be in the same split
    problem: str = ""  # "<reason>: <detail>" when the source rejects this item
    version: str = ""  # checksum by the store's listing, "" when the content has to be hashed
    locator: str = ""  # says where the image is stored, in a format of the source

    @property
    def content(self) -> str:
        """Hash of the content, or the checksum of a store that was not read; "" for neither."""
        return self.sha256 or self.version

    def key(self, content: str) -> bytes:
        """Fingerprint of everything that determines this item's record.

        Args:
            content: `Item.content`; "" if the content cannot be read.
        """
        parts = [self.path, content, self.label, self.split, self.group, self.problem]
        # As JSON, different parts give different texts, and names that are not UTF-8 are escaped.
        return hashlib.sha256(json.dumps(parts).encode()).digest()


@dataclass(frozen=True, slots=True)
class Note:
    """Something that a source found and did not use, so that nothing is ignored silently."""

    kind: str  # hidden, symlink, cycle, unreadable_folder, unreadable_file, special_file, …
    path: str
    detail: str = ""
    count: int = 1  # more in a note that stands for all further ones of its kind


@dataclass(frozen=True)
class Scan:
    """The content of a source at one moment."""

    source: str
    items: Sequence[Item]  # sources pack them, see `items.Items`
    vocabulary: tuple[str, ...]  # class names in sorted order
    given_splits: tuple[str, ...] = ()  # splits that the source itself names
    notes: tuple[Note, ...] = ()  # in order and without duplicates after `VettedSource`
    fingerprint: str = ""  # hex SHA-256 of all `Item.key`s, which `VettedSource.scan` computes

    def counts(self) -> dict[str, int]:
        """Number of files of each class of the vocabulary, before any check."""
        seen = collections.Counter(item.label for item in self.items)
        return {name: seen[name] for name in self.vocabulary}

    def noted(self) -> collections.Counter[str]:
        """What the notes count, by kind."""
        found: collections.Counter[str] = collections.Counter()
        for note in self.notes:
            found[note.kind] += note.count
        return found

    def groups(self) -> int:
        """Number of different groups."""
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
        """List all items, hash their contents and compute the fingerprint.

        Raises:
            ConfigError: The source does not exist or is not laid out as expected.
        """
        ...

    def read(self, item: Item) -> bytes:
        """Read the content of an item of a listing.

        Raises:
            OSError: The content cannot be read.
        """
        ...


def fingerprint(keys: Iterable[bytes]) -> str:
    """Hex SHA-256 of all `Item.key`s, independent of their order.

    Args:
        keys: Keys, or several of them joined: 32 bytes of memory each.
    """
    import numpy as np

    joined = bytearray()  # `join` would hold an object for each key
    for key in keys:
        joined += key
    table = np.frombuffer(joined, f"S{KEY_BYTES}")
    table.sort()  # in place: `joined` is the memory of the table
    return hashlib.sha256(table.data).hexdigest()
