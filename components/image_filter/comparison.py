"""The comparison of all images of a set: identical files and near-duplicates.

One worker searches the hashes of all images for candidates; only these are compared in groups.
`compare` runs all steps in one process, and Beam runs the same steps on its workers.
"""

from __future__ import annotations

import collections
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from imgpipe.components.image_filter import identical_files
from imgpipe.components.image_filter.check import Finding, Settings
from imgpipe.components.image_filter.checks import near_duplicate
from imgpipe.components.image_filter.identical_files import Copy
from imgpipe.components.image_filter.near_duplicates import matching
from imgpipe.components.image_filter.near_duplicates.groups import Member
from imgpipe.components.image_filter.near_duplicates.matching import Found
from imgpipe.components.image_filter.part import Part


def radius(settings: Settings) -> int:
    """Return the largest distance of near-duplicates in bits; 0 turns the search off."""
    return int(near_duplicate.CHECK.threshold_in(settings))


def search(parts: Sequence[Part], settings: Settings) -> Iterator[tuple[str, Found | None]]:
    """Find the contents that occur several times or have near-duplicates.

    Yields:
        (content hash, its group of near-duplicates or None).
    """
    limit = radius(settings)
    with tempfile.TemporaryDirectory(prefix="imgpipe-rows-") as folder:
        rows = matching.Columns(Path(folder) / "rows")
        for part in parts if limit > 0 else ():
            rows.append([part.rows()])
        found = dict(matching.find_in(rows, limit)) if limit > 0 else {}
    yield from found.items()
    for content in matching.repeated([part.contents() for part in parts]):
        if content.hex() not in found:
            yield content.hex(), None


def resolve_identical(group: tuple[str, Iterable[Copy]]) -> list[tuple[bytes, Finding]]:
    """Return (path, finding) of the images of one content that are rejected."""
    return [(finding.key, finding) for finding in identical_files.resolve(group[1])]


def compare(
    parts: Sequence[Part], settings: Settings
) -> tuple[dict[bytes, Finding], tuple[Mapping[str, Any], ...]]:
    """Compare all images in this process.

    Returns:
        The findings by path, and the rows of the groups of near-duplicates.
    """
    found = dict(search(parts, settings))
    copies: dict[str, list[Copy]] = collections.defaultdict(list)
    for part in parts:
        for image_hash, copy in part.copies(found):
            copies[image_hash].append(copy)
    findings: dict[bytes, Finding] = {}
    groups: dict[int, list[tuple[int, Member]]] = collections.defaultdict(list)
    for content in copies.items():
        findings.update(resolve_identical(content))
        for number, member in matching.members(content, found):
            groups[number].append(member)
    resolved = [one for group in groups.items() for one in matching.resolve_group(group, settings)]
    for near, _ in resolved:
        findings.update(near)
    lines = (line for _, line in resolved)
    return findings, tuple(sorted(lines, key=lambda line: str(line["members"][0]["path"])))
