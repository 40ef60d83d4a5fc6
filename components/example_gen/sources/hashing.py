"""Hashes the contents of a source in threads."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterator

from imgpipe.components.example_gen.sources.base import Item, Note, Scan, Source
from imgpipe.components.example_gen.sources.items import Items, ItemSorter, in_reading_order
from imgpipe.models import progress

_HASH_THREADS = 8  # reading waits for the disk, and hashing releases the interpreter lock
_AHEAD = 128  # items passed to the threads at once, which are hashed even after an interruption


class HashedSource(Source):
    """A source whose contents have to be read to be hashed."""

    def scan(self) -> Scan:
        """List the items and hash their contents; see `Source.scan`."""
        return hashed(self.listing(), self.digest)

    def digest(self, item: Item) -> str:
        """Hex SHA-256 of the content of an item.

        Raises:
            OSError: The content cannot be read.
        """
        return hashlib.sha256(self.read(item)).hexdigest()


def hashed(listing: Scan, digest: Callable[[Item], str]) -> Scan:
    """Hash the contents of a listing in threads.

    Args:
        listing: Listing of a source.
        digest: Returns the hex SHA-256 of an item's content, or raises OSError.

    Returns:
        The listing with hashes, and with a note for each unreadable item.
    """

    def attempt(item: Item) -> tuple[str, str]:
        try:
            return digest(item), ""
        except OSError as error:
            return "", error.strerror or str(error)

    known = {(note.kind, note.path) for note in listing.notes}  # such as dead links
    notes = list(listing.notes)

    ordered = in_reading_order(listing.items)

    def read() -> Iterator[Item]:
        remaining = iter(ordered)
        with concurrent.futures.ThreadPoolExecutor(_HASH_THREADS) as pool:
            while part := list(itertools.islice(remaining, _AHEAD)):
                for item, (content, error) in zip(part, pool.map(attempt, part), strict=True):
                    if error and ("unreadable_file", item.path) not in known:
                        notes.append(Note("unreadable_file", item.path, error))
                    yield dataclasses.replace(item, sha256=content)
                    progress.advance(1, "files")

    progress.total(len(listing.items), "files")
    if ordered is listing.items:
        items = Items(read())  # appends to `notes`
    else:
        sorter = ItemSorter()
        sorter.extend(read())
        items = sorter.sorted()
    return dataclasses.replace(listing, items=items, notes=tuple(notes))
