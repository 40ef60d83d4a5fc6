"""What every source of images hands over: a list of items, the classes, a fingerprint, notes.

No TensorFlow here: the command line scans and hashes while the heavy imports load.
"""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Item:
    """One file of a source."""

    path: str  # below the source's root, with forward slashes
    label: str | None = None  # class name, None where the place says none
    split: str | None = None  # the split given by the place, None where it is to be drawn
    symlink: bool = False  # reached through a symbolic link
    sha256: str = ""  # hex, of the content; "" when not hashed or not readable


@dataclass(frozen=True)
class Note:
    """Something seen on the way that is no item: named, so that nothing is dropped in silence."""

    kind: str  # hidden, symlink, cycle, unreadable_folder, unreadable_file, special_file, …
    path: str
    detail: str = ""


@dataclass(frozen=True)
class Scan:
    """What a source holds at one moment; `items` are sorted by path."""

    source: str
    items: tuple[Item, ...]
    vocabulary: tuple[str, ...]  # class names in sorted order
    given_splits: tuple[str, ...] = ()  # splits that the source itself names
    notes: tuple[Note, ...] = ()
    fingerprint: str = ""  # hex SHA-256 over sorted (path, content hash); "" when not hashed

    def counts(self) -> dict[str, int]:
        """Files of each class of the vocabulary, before anything is judged."""
        seen = collections.Counter(item.label for item in self.items)
        return {name: seen[name] for name in self.vocabulary}


class Source(Protocol):
    """A place that images come from. Implementations are picklable: Beam workers hold one."""

    def listing(self) -> Scan:
        """Everything there is, without reading contents (`fingerprint` and hashes stay empty)."""
        ...

    def scan(self) -> Scan:
        """Like `listing`, with every content hashed and the fingerprint over all of them."""
        ...

    def read(self, path: str) -> bytes:
        """The content of one item; OSError when it cannot be read."""
        ...


def fingerprint(contents: Iterable[tuple[str, str]]) -> str:
    """Hex SHA-256 over the sorted (path, content hash) pairs: times and order change nothing."""
    digest = hashlib.sha256()
    for path, content in sorted(contents):
        name = path.encode("utf-8", "surrogateescape")
        digest.update(b"%d:%s:%s\n" % (len(name), name, content.encode()))
    return digest.hexdigest()
