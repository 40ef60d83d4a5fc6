"""The steps from the perceptual hashes of a whole set to findings; both drivers run them.

The steps pass on little data: 576 bytes per image to the search, and then the paths of the images
that have near-duplicates.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgpipe.components.image_file.perceptual_hash import ALL_BYTES, BYTES, PerceptualHashes, parse
from imgpipe.components.image_filter.check import Finding, Settings
from imgpipe.components.image_filter.identical_files import Copy, resolve
from imgpipe.components.image_filter.near_duplicates import groups, search

#: File in the quarantine with one line for each group.
FILE = "near_duplicates.jsonl"
HASH_BYTES = BYTES  # of a SHA-256, which is as long as a perceptual hash
#: Number of columns of a row: the content hash and the perceptual hashes.
_COLUMNS = 1 + ALL_BYTES // BYTES

Column = npt.NDArray[np.uint8]  # [n, 32]
Contents = npt.NDArray[np.void]


@dataclass(frozen=True)
class Found:
    """The group of near-duplicates that a content belongs to."""

    group: int
    radius: int
    hashes: PerceptualHashes


def row(image_hash: str, hashes: bytes) -> bytes:
    """Return the row of an image for the search; b"" when the image cannot be compared.

    Args:
        image_hash: Hex SHA-256 of the file.
        hashes: The perceptual hashes; another length than `ALL_BYTES` means that there are none.
    """
    if len(hashes) != ALL_BYTES or len(image_hash) != 2 * HASH_BYTES:
        return b""
    return bytes.fromhex(image_hash) + hashes


class Columns:
    """Rows that are stored in one file per column, so that single columns can be read."""

    def __init__(self, folder: Path) -> None:
        """Create empty files.

        Args:
            folder: Folder of the files; it is created if it does not exist.
        """
        self._folder = folder
        folder.mkdir(exist_ok=True)
        for number in range(_COLUMNS):
            (folder / str(number)).touch()

    def append(self, rows: Iterable[bytes]) -> None:
        """Append rows; not safe for several threads at a time."""
        table = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, _COLUMNS, HASH_BYTES)
        for number in range(_COLUMNS):
            with (self._folder / str(number)).open("ab") as file:
                file.write(table[:, number].tobytes())

    def __call__(self, number: int) -> Column:
        """Read one column: uint8 [rows, HASH_BYTES]."""
        return np.fromfile(self._folder / str(number), np.uint8).reshape(-1, HASH_BYTES)


def find_in(column: Callable[[int], Column], limit: int) -> Iterator[tuple[str, Found]]:
    """Find all contents that have near-duplicates.

    Byte-identical images count once here; `identical_files` decides about them.

    Args:
        column: Function that returns a column by number. Column 0 holds the content hashes, the
            others hold the perceptual hashes.
        limit: Largest distance of near-duplicates in bits.

    Yields:
        (content hash, its group).
    """
    keys = np.ascontiguousarray(column(0)).view(f"S{HASH_BYTES}")[:, 0]
    order = np.unique(keys, return_index=True)[1]
    hashes = search.Hashes(lambda number: column(number + 1), _COLUMNS - 1, order)
    radius = search.fitting_radius(hashes, limit)
    numbers = search.groups(hashes, radius)
    (together,) = np.nonzero(np.bincount(numbers, minlength=len(order))[numbers] > 1)
    positions = order[together]
    rows = np.stack([column(number)[positions] for number in range(_COLUMNS)], axis=1)
    for number, row in zip(numbers[together].tolist(), rows, strict=True):
        data = row.tobytes()
        yield data[:HASH_BYTES].hex(), Found(number, radius, parse(data[HASH_BYTES:]))


def contents(table: bytes) -> Contents:
    """Return concatenated content hashes of 32 bytes each as an array."""
    return np.frombuffer(table, f"V{HASH_BYTES}")


def repeated(parts: Sequence[Contents]) -> set[bytes]:
    """Return the contents that occur more than once."""
    if not parts:
        return set()
    words = np.concatenate(parts).view(">u8").reshape(-1, HASH_BYTES // 8)
    words = words[np.lexsort(words.T)]
    again = (words[1:] == words[:-1]).all(axis=1)
    return {row.tobytes() for row in words[1:][again]}


def members(
    content: tuple[str, Iterable[Copy]], found: Mapping[str, Found | None]
) -> list[tuple[int, tuple[int, groups.Member]]]:
    """Return (group number, (radius, member)) of the kept copies, if the content has a group."""
    image_hash, copies = content
    near = found.get(image_hash)
    if near is None:
        return []
    everyone = list(copies)
    gone = {drop.path for drop in resolve(everyone)}
    return [
        (near.group, (near.radius, _member(copy, image_hash, near.hashes)))
        for copy in everyone
        if copy.path not in gone
    ]


def _member(copy: Copy, image_hash: str, hashes: PerceptualHashes) -> groups.Member:
    return groups.Member(copy.path, copy.split, copy.label, image_hash, hashes, copy.group)


def resolve_group(
    group: tuple[int, Iterable[tuple[int, groups.Member]]], settings: Settings
) -> Iterator[tuple[list[tuple[bytes, Finding]], dict[str, Any]]]:
    """Decide about one group.

    Yields:
        The findings with their `Finding.key`, and the row of the group in the quarantine; nothing
        when there are no findings.
    """
    entries = sorted(group[1], key=lambda entry: entry[1].path)
    members, radius = [member for _, member in entries], entries[0][0]
    accepted = [key for key, override in settings.overrides.items() if override.verdict != "reject"]
    if findings := groups.resolve(members, radius, settings.severity, accepted):
        yield [(one.key, one) for one in findings], groups.line(members, radius, findings)


def listing(lines: Iterable[Mapping[str, Any]]) -> str:
    """Return the groups as JSON Lines, sorted by first path: every driver writes the same."""
    ordered = sorted(lines, key=lambda line: line["members"][0]["path"])
    return "".join(json.dumps(line) + "\n" for line in ordered)
