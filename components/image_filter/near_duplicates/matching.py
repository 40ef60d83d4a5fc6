"""The steps from the perceptual hashes of a whole set to findings; both drivers run them.

One worker writes the hashes of the set to files (`tabulate`), any number of workers compare shares
of them (`search.tasks`, `search.linked`), and one worker joins the connected images to groups
(`find`). Then only the images of a group are compared with each other (`members`,
`resolve_group`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from imgpipe.components.image_file.perceptual_hash import ALL_BYTES, KINDS, PerceptualHashes, parse
from imgpipe.components.image_filter.check import Finding, Settings
from imgpipe.components.image_filter.checks.near_duplicate import radius
from imgpipe.components.image_filter.identical_files import Copy, resolve
from imgpipe.components.image_filter.near_duplicates import groups, search, table
from imgpipe.components.image_filter.near_duplicates.links import Links
from imgpipe.components.image_filter.near_duplicates.table import HASH_BYTES, Table

#: File in the quarantine with one line for each group.
FILE = "near_duplicates.jsonl"


@dataclass(frozen=True)
class Found:
    """The group of near-duplicates that a content belongs to."""

    group: int
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


def tabulate(shards: Iterable[tuple[bytes, bytes]], uri: str, limit: int) -> Table:
    """Write the hashes of a set to files.

    Args:
        shards: Rows and content hashes of each shard, see `table.write`.
        uri: Folder for the files.
        limit: Largest distance of near-duplicates in bits; 0 turns the search off.
    """
    return table.write(((rows if limit else b"", contents) for rows, contents in shards), uri)


def find(forests: Iterable[search.Indices], hashes: Table) -> Iterator[tuple[str, Found | None]]:
    """Find all contents that have near-duplicates or occur several times.

    Byte-identical images count once in a group; `identical_files` decides about them.

    Args:
        forests: What `search.linked` returned for all tasks, in any order.
        hashes: What `tabulate` returned.

    Yields:
        (content hash, its group of near-duplicates or None).
    """
    positions, numbers = Links(forests).groups()
    repeated = {content.tobytes() for content in hashes.repeated()}
    rows = (row.tobytes() for some in hashes.rows_at(positions) for row in some)
    for number, data in zip(numbers.tolist(), rows, strict=True):
        repeated.discard(data[:HASH_BYTES])  # it is reported here, with its group
        yield data[:HASH_BYTES].hex(), Found(number, parse(data[HASH_BYTES:]))
    for content in sorted(repeated):
        yield content.hex(), None


def search_here(
    shards: Iterable[tuple[bytes, bytes]], limit: int
) -> Iterator[tuple[str, Found | None]]:
    """Do all steps of the search in this process, with temporary files.

    Args:
        shards: See `tabulate`.
        limit: Largest distance of near-duplicates in bits.

    Yields:
        See `find`.
    """
    with tempfile.TemporaryDirectory(prefix="imgpipe-search-") as folder:
        made = tabulate(shards, folder, limit)
        tasks, hashes = search.tasks(made.rows, KINDS), made.hashes()
        yield from find((search.linked(hashes, task, limit) for task in tasks), made)


def members(
    content: tuple[str, Iterable[Copy]], found: Mapping[str, Found | None]
) -> list[tuple[int, groups.Member]]:
    """Return (group number, member) of the kept copies, if the content has a group."""
    image_hash, copies = content
    near = found.get(image_hash)
    if near is None:
        return []
    everyone = list(copies)
    gone = {drop.path for drop in resolve(everyone)}
    kept = (
        groups.Member(copy.path, copy.split, copy.label, image_hash, near.hashes, copy.group)
        for copy in everyone
        if copy.path not in gone
    )
    return [(near.group, member) for member in kept]


def resolve_group(
    group: tuple[int, Iterable[groups.Member]], settings: Settings
) -> Iterator[tuple[list[tuple[bytes, Finding]], dict[str, Any]]]:
    """Decide about one group.

    Yields:
        The findings with their `Finding.key`, and the row of the group in the quarantine; nothing
        if no images of the group are near-duplicates. A group about which the settings ignore all
        findings has a row without reasons, because no fold may divide it.
    """
    # Beam's groups have no order, and the results must not depend on one.
    members, limit = sorted(group[1], key=lambda member: member.path), radius(settings)
    by_verdict = {
        verdict: [key for key, one in settings.overrides.items() if one.verdict == verdict]
        for verdict in ("accept", "relabel")
    }
    findings = groups.resolve(
        members, limit, settings.severity, by_verdict["accept"], by_verdict["relabel"]
    )
    # With the usual severities, nothing is ignored.
    if findings or ("ignore" in settings.severity.values() and groups.resolve(members, limit)):
        yield [(one.key, one) for one in findings], groups.line(members, limit, findings)


def reported(lines: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of the groups about which there is a finding, for people.

    Args:
        lines: Rows as `resolve_group` yields them.
    """
    return [line for line in lines if any(member["reason"] for member in line["members"])]


def ordered(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort the rows of groups by their first path, so that every driver lists the same."""
    return sorted(lines, key=lambda line: str(line["members"][0]["path"]))
