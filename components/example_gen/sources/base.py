"""What every source of images hands over: a list of items, the classes, a fingerprint, notes.

No TensorFlow here: the command line scans and hashes while the heavy imports load.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from imgpipe.models import progress

_HASH_THREADS = 8  # reading waits for the disk, hashing releases the interpreter lock
_AHEAD = 1024  # items handed to the threads at once: memory does not grow with the source


@dataclass(frozen=True)
class SourceOptions:
    """How a source is to be read, where its own form leaves that open; see the config's [data]."""

    classes: tuple[str, ...] = ()  # the only labels there may be; empty: those that are found
    group_pattern: str = ""  # regular expression on the path; its first group is the group's id
    label_column: str = ""  # name, or place from 0; "" for the usual names
    path_column: str = ""
    split_column: str = ""
    group_column: str = ""
    image_column: str = ""  # feature that holds the encoded image (TFRecord, TFDS)
    root: str = ""  # folder that a manifest's paths start from; "" for the manifest's own
    follow_links: bool = False  # read files that symbolic links outside of the source lead to
    tfds_dir: str = ""  # TensorFlow Datasets' folder; "" for its usual one

    def to_json(self) -> str:
        """Only what is set, so that a new option changes no cache key."""
        usual = SourceOptions()
        values = dataclasses.asdict(self)
        changed = {k: v for k, v in values.items() if v != getattr(usual, k)}
        return json.dumps(changed, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> SourceOptions:
        """The reverse of `to_json`."""
        values = json.loads(text or "{}")
        return dataclasses.replace(cls(**values), classes=tuple(values.get("classes", ())))


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a source."""

    path: str  # below the source's root, with forward slashes; no two items share one
    label: str | None = None  # class name, None where the place says none
    split: str | None = None  # the split given by the place, None where it is to be drawn
    symlink: bool = False  # reached through a symbolic link
    sha256: str = ""  # hex, of the content; "" when not hashed or not readable
    group: str | None = None  # what must not straddle splits: a person, a video, a session
    problem: str = ""  # "<reason>: <detail>" when the source itself speaks against this item
    place: str = ""  # where the source finds it again, in the source's own words

    def key(self, content: str) -> bytes:
        """Address of everything that decides this item's record; `content` is its hex SHA-256."""
        parts = [self.path, content, self.label, self.split, self.group, self.problem]
        return hashlib.sha256(json.dumps(parts).encode()).digest()


@dataclass(frozen=True, slots=True)
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
    fingerprint: str = ""  # hex SHA-256 over all `Item.key`s; "" when not hashed

    def counts(self) -> dict[str, int]:
        """Files of each class of the vocabulary, before anything is judged."""
        seen = collections.Counter(item.label for item in self.items)
        return {name: seen[name] for name in self.vocabulary}

    def groups(self) -> int:
        """How many different groups there are."""
        return len({item.group for item in self.items if item.group is not None})


class Source(Protocol):
    """A place that images come from. Implementations are picklable: Beam workers hold one."""

    def listing(self) -> Scan:
        """Everything there is, without reading contents (`fingerprint` and hashes stay empty)."""
        ...

    def scan(self) -> Scan:
        """Like `listing`, with every content hashed and the fingerprint over all of them."""
        ...

    def read(self, item: Item) -> bytes:
        """The content of one item of a listing; OSError when it cannot be read."""
        ...


def fingerprint(keys: Iterable[bytes]) -> str:
    """Hex SHA-256 over the sorted `Item.key`s: times and order change nothing."""
    digest = hashlib.sha256()
    for key in sorted(keys):
        digest.update(key)
    return digest.hexdigest()


def sorted_notes(notes: Iterable[Note]) -> tuple[Note, ...]:
    """Notes in the order of every scan."""
    return tuple(sorted(set(notes), key=lambda note: (note.kind, note.path, note.detail)))


def hashed(listing: Scan, digest: Callable[[Item], str]) -> Scan:
    """The listing with every content hashed, in threads.

    `digest` gives the hex SHA-256 of an item's content and raises OSError when it cannot be read.
    """

    def attempt(item: Item) -> tuple[str, str]:
        try:
            return digest(item), ""
        except OSError as error:
            return "", error.strerror or str(error)

    known = {(note.kind, note.path) for note in listing.notes}  # dead links
    notes, items = list(listing.notes), []
    progress.total(len(listing.items), "files")
    with concurrent.futures.ThreadPoolExecutor(_HASH_THREADS) as pool:
        for start in range(0, len(listing.items), _AHEAD):
            part = listing.items[start : start + _AHEAD]
            for item, (content, error) in zip(part, pool.map(attempt, part), strict=True):
                if error and ("unreadable_file", item.path) not in known:
                    notes.append(Note("unreadable_file", item.path, error))
                items.append(dataclasses.replace(item, sha256=content))
                progress.advance(1, "files")
    return dataclasses.replace(
        listing,
        items=tuple(items),
        notes=sorted_notes(notes),
        fingerprint=fingerprint(item.key(item.sha256) for item in items),
    )
