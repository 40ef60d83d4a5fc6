"""Hashes the contents of a listing in threads."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
from collections.abc import Callable, Iterator

from imgpipe.components.example_gen.sources.base import (
    Item,
    Note,
    Scan,
    fingerprint,
    sorted_notes,
)
from imgpipe.components.example_gen.sources.items import Items
from imgpipe.models import progress

_HASH_THREADS = 8  # reading waits for the disk, and hashing releases the interpreter lock
_AHEAD = 1024  # items passed to the threads at once, so that memory does not grow with the source


def hashed(listing: Scan, digest: Callable[[Item], str]) -> Scan:
    """Hash the contents of a listing in threads, and compute the fingerprint.

    Args:
        listing: Listing of a source.
        digest: Returns the hex SHA-256 of an item's content, or raises OSError.

    Returns:
        The listing with hashes and fingerprint, and with a note for each unreadable item.
    """

    def attempt(item: Item) -> tuple[str, str]:
        try:
            return digest(item), ""
        except OSError as error:
            return "", error.strerror or str(error)

    known = {(note.kind, note.path) for note in listing.notes}  # such as dead links
    notes = list(listing.notes)

    def read() -> Iterator[Item]:
        remaining = iter(listing.items)
        with concurrent.futures.ThreadPoolExecutor(_HASH_THREADS) as pool:
            while part := list(itertools.islice(remaining, _AHEAD)):
                for item, (content, error) in zip(part, pool.map(attempt, part), strict=True):
                    if error and ("unreadable_file", item.path) not in known:
                        notes.append(Note("unreadable_file", item.path, error))
                    yield dataclasses.replace(item, sha256=content)
                    progress.advance(1, "files")

    progress.total(len(listing.items), "files")
    items = Items(read())
    return dataclasses.replace(
        listing,
        items=items,
        notes=sorted_notes(notes),
        fingerprint=fingerprint(item.key(item.sha256) for item in items),
    )
