"""The comparison of all images of a set: identical files and near-duplicates.

The search for candidates among the hashes of all images is divided among the workers. Then the
images are placed in splits, and the candidates are compared in groups. `compare` runs all steps in
one process, and Beam runs the same steps on its workers.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imgpipe.components.image_filter import identical_files, placement
from imgpipe.components.image_filter.check import Finding, Settings
from imgpipe.components.image_filter.checks import near_duplicate
from imgpipe.components.image_filter.checks.near_duplicate import radius
from imgpipe.components.image_filter.identical_files import Copy
from imgpipe.components.image_filter.near_duplicates import matching
from imgpipe.components.image_filter.near_duplicates.groups import Member
from imgpipe.components.image_filter.near_duplicates.matching import Found
from imgpipe.components.image_filter.part import Part
from imgpipe.components.image_filter.placement import Move


@dataclass(frozen=True)
class Comparison:
    """The result of the comparison.

    Attributes:
        findings: Findings by `Finding.key`.
        near: Rows of the groups of near-duplicates, in the order of their first paths.
        moves: Images that are moved to another split, by content hash.
    """

    findings: Mapping[bytes, Finding]
    near: tuple[Mapping[str, Any], ...]
    moves: Mapping[str, Move]


def search(parts: Sequence[Part], settings: Settings) -> Iterator[tuple[str, Found | None]]:
    """Find the contents that occur several times or have near-duplicates, in this process.

    Yields:
        (content hash, its group of near-duplicates or None).
    """
    return matching.search_here(map(Part.hashes, parts), radius(settings))


def place(
    parts: Sequence[Part], settings: Settings, found: Mapping[str, Found | None]
) -> Iterator[tuple[str, Move]]:
    """Find the images that are moved to another split.

    Yields:
        (content hash, move).
    """
    if settings.splits is not None and settings.splits.drawn:
        near = {content: one.group for content, one in found.items() if one is not None}
        one_of_near = near_duplicate.CHECK.severity_in(settings) == "reject"
        rows = [part.places() for part in parts]
        yield from placement.place(rows, near, settings.splits, one_of_near)


def resolve_identical(group: tuple[str, Iterable[Copy]]) -> list[tuple[bytes, Finding]]:
    """Return (path, finding) of the images of one content that are rejected."""
    return [(finding.key, finding) for finding in identical_files.resolve(group[1])]


def compare(parts: Sequence[Part], settings: Settings) -> Comparison:
    """Compare all images in this process."""
    found = dict(search(parts, settings))
    moves = dict(place(parts, settings, found))
    copies: dict[str, list[Copy]] = collections.defaultdict(list)
    for part in parts:
        for image_hash, copy in part.copies(found, moves):
            copies[image_hash].append(copy)
    findings: dict[bytes, Finding] = {}
    groups: dict[int, list[Member]] = collections.defaultdict(list)
    for content in copies.items():
        findings.update(resolve_identical(content))
        for number, member in matching.members(content, found):
            groups[number].append(member)
    resolved = [one for group in groups.items() for one in matching.resolve_group(group, settings)]
    for near, _ in resolved:
        findings.update(near)
    lines = matching.reported(matching.ordered(line for _, line in resolved))
    return Comparison(findings, tuple(lines), moves)
