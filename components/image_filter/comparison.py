"""The comparison of all images of a set: identical files, near-duplicates and splits.

The first pass has written what is compared to the files of its parts. One process searches for
near-duplicates, with the hashes in temporary files. Then the images are placed in splits, and those
of each group are compared with each other.

Files with the same content hash form a group too. If the copies are in several splits, the one used
for evaluation is kept, so that no model is evaluated on an image that it was trained on. If the
copies have different labels, none is kept, because the correct label is unknown.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgpipe.components.image_file.perceptual_hash import BYTES, GREY_BYTES, KINDS
from imgpipe.components.image_filter import near_groups, placement
from imgpipe.components.image_filter.check import Finding, Settings
from imgpipe.components.image_filter.checks import CHECKS, whole_set
from imgpipe.components.image_filter.decision import Decision, settled
from imgpipe.components.image_filter.first_pass import HASH_BYTES, Part, Table
from imgpipe.components.image_filter.near_groups import Member
from imgpipe.components.image_filter.near_search import Hashes, in_groups, search
from imgpipe.components.image_filter.placement import Move
from imgpipe.models import feature_names as names

DUPLICATE = "duplicate"
ACROSS_SPLITS = "duplicate_across_splits"
LABEL_CONFLICT = "label_conflict"
#: What to do about a rejected copy, by reason.
REMEDIES = {
    DUPLICATE: "nothing is lost, because one copy is kept; delete the copy that you do not need",
    ACROSS_SPLITS: "nothing is lost, because one copy is kept; delete that one to use this one",
    LABEL_CONFLICT: "keep the copy in the correct class, delete the others and run again",
}
#: Of copies in several splits the one in the split with the lowest number is kept.
_PRECEDENCE = {names.TEST: 0, names.VALIDATION: 1, names.TRAIN: 2}
_SHOWN = 10  # paths listed in a detail
#: Widths of the columns of `Part.hashes`: the content hash, the perceptual hashes, the grey image.
_WIDTHS = (HASH_BYTES, *(BYTES,) * KINDS, GREY_BYTES)


@dataclass(frozen=True)
class Comparison:
    """The result of the comparison.

    Attributes:
        findings: Findings by path.
        near: Groups of near-duplicates about which there is a finding, as `near_groups.line`
            returns them, in the order of their first paths.
        groups: Number of the group of near-duplicates, from 1 on, by content hash of the images
            that are in one.
        moves: Images that are moved to another split, by content hash.
        limits: Limits of the checks that need the set, by check.
    """

    findings: Mapping[str, Finding] = field(default_factory=dict)
    near: tuple[Mapping[str, Any], ...] = ()
    groups: Mapping[str, int] = field(default_factory=dict)
    moves: Mapping[str, Move] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)

    def settle(self, part: Part, settings: Settings) -> Iterator[Decision]:
        """Run the second pass, which combines the decisions with the results of the comparison.

        Args:
            part: Files that the first pass wrote.
            settings: Settings of the checks.

        Yields:
            The final decision about each image, in the order of the shard.
        """
        settings = dataclasses.replace(settings, limits=self.limits)
        for decision in part.decisions():
            image_hash, path = decision.record.image_hash, decision.record.path
            decision = decision.moved(self.moves.get(image_hash))
            decision = settled(decision, settings, self.findings.get(path))
            yield decision.in_group(self.groups.get(image_hash, 0))


def compare(parts: Sequence[Part], settings: Settings) -> Comparison:
    """Compare all images in this process.

    Args:
        parts: What the first pass wrote; their order does not matter.
        settings: Settings of the checks.
    """
    radius = whole_set.radius(settings)
    tables = [part.table() for part in parts]
    hashes = _near(parts, radius) if radius > 0 else {}
    groups = {content: number for content, (number, _) in hashes.items()}
    moves: dict[str, Move] = {}
    if settings.splits is not None and settings.splits.drawn:
        one_of_near = whole_set.NEAR_DUPLICATE.severity_in(settings) == "reject"
        rows = [table.places for table in tables]
        moves = dict(placement.place(rows, groups, settings.splits, one_of_near))
    findings: dict[str, Finding] = {}
    near: dict[int, list[Member]] = collections.defaultdict(list)
    for content, copies in _copies(parts, tables, groups, moves).items():
        rejected = {finding.path: finding for finding in identical(copies)}
        findings |= rejected
        if content in hashes:
            number, perceptual = hashes[content]
            near[number] += [
                dataclasses.replace(one, hashes=perceptual)
                for one in copies
                if one.path not in rejected
            ]
    lines = []
    for members in near.values():
        if found := near_groups.resolve(members, settings):
            findings |= {finding.path: finding for finding in found}
            lines.append(near_groups.line(members, radius, found))
    lines.sort(key=lambda line: str(line["members"][0]["path"]))
    return Comparison(findings, tuple(lines), groups, moves, _limits(tables, settings))


def identical(copies: Sequence[Member]) -> list[Finding]:
    """Decide which copies of one content are rejected.

    Args:
        copies: The images with the same content, in any order.

    Returns:
        One finding for each rejected copy, in the order of their paths.
    """
    group = sorted(copies, key=lambda copy: copy.path)
    if len({copy.label for copy in group}) > 1:
        return [_conflict(copy, group) for copy in group]
    kept = min(group, key=lambda copy: (_PRECEDENCE[copy.split], copy.path))
    return [_drop(copy, kept) for copy in group if copy != kept]


def _conflict(copy: Member, group: Sequence[Member]) -> Finding:
    others = [f"{c.path} ({c.label})" for c in group if c != copy]
    shown = ", ".join(others[:_SHOWN]) + (", …" if len(others) > _SHOWN else "")
    detail = f"labelled {copy.label}, but identical to {shown}"
    return _finding(copy, LABEL_CONFLICT, detail)


def _drop(copy: Member, kept: Member) -> Finding:
    if copy.split == kept.split:
        return _finding(copy, DUPLICATE, f"same bytes as {kept.path}", kept.path)
    detail = f"same bytes as {kept.path}, which is in {kept.split}; this one is in {copy.split}"
    return _finding(copy, ACROSS_SPLITS, detail, kept.path)


def _finding(copy: Member, reason: str, detail: str, kept_copy: str = "") -> Finding:
    return Finding(reason, detail, remedy=REMEDIES[reason], path=copy.path, kept_copy=kept_copy)


def _near(parts: Sequence[Part], radius: int) -> dict[str, tuple[int, bytes]]:
    """Search for near-duplicates; byte-identical images count once.

    The hashes of the set are in one file for each column, of which the search maps one or two at a
    time.

    Returns:
        Number of the group and perceptual hashes, by content hash of the images in a group.
    """
    with tempfile.TemporaryDirectory(prefix="imgpipe-search-") as folder:
        with contextlib.ExitStack() as stack:
            paths = (Path(folder) / str(number) for number in range(len(_WIDTHS)))
            files = [stack.enter_context(path.open("wb")) for path in paths]
            for part in parts:
                columns = np.split(part.hashes(), np.cumsum(_WIDTHS)[:-1], axis=1)
                for file, column in zip(files, columns, strict=True):
                    file.write(column.tobytes())

        def mapped(number: int) -> npt.NDArray[np.uint8]:
            return np.memmap(f"{folder}/{number}", np.uint8, "r").reshape(-1, _WIDTHS[number])

        if not Path(f"{folder}/0").stat().st_size:  # an empty file cannot be mapped
            return {}
        # In the order of the contents, which does not depend on the order of the images.
        rows = np.unique(_text(mapped(0)), return_index=True)[1]
        greys = mapped(len(_WIDTHS) - 1)
        firsts = search(Hashes(rows, KINDS, lambda kind: mapped(1 + kind), greys), radius)
        found = in_groups(firsts)
        columns = [mapped(number)[rows[found]] for number in range(len(_WIDTHS))]
    hashes = np.concatenate(columns[1:], axis=1)
    numbers = (1 + firsts[found]).tolist()
    return {
        content: (number, row.tobytes())
        for content, number, row in zip(_hex(columns[0]), numbers, hashes, strict=True)
    }


def _text(contents: npt.NDArray[np.uint8]) -> npt.NDArray[np.bytes_]:
    """View content hashes, uint8 [n, 32], as values that NumPy sorts."""
    return np.ascontiguousarray(contents).view(f"S{HASH_BYTES}")[:, 0]


def _hex(contents: npt.NDArray[Any]) -> list[str]:
    """Return content hashes as hexadecimal digits."""
    digits = contents.tobytes().hex()
    return [digits[start : start + 2 * HASH_BYTES] for start in range(0, len(digits), 64)]


def _copies(
    parts: Sequence[Part],
    tables: Sequence[Table],
    near: Collection[str],
    moves: Mapping[str, Move],
) -> dict[str, list[Member]]:
    """Read the images that occur several times or have near-duplicates, by content hash."""
    every = np.frombuffer(b"".join(table.contents for table in tables), f"S{HASH_BYTES}")
    contents, counts = np.unique(every, return_counts=True)
    wanted = {*near, *_hex(contents[counts > 1])}
    copies: dict[str, list[Member]] = collections.defaultdict(list)
    for part, table in zip(parts, tables, strict=True):
        here = np.frombuffer(table.contents, f"V{HASH_BYTES}")
        if wanted.isdisjoint(_hex(here)):
            continue
        for one in part.decisions():
            content = one.record.image_hash
            if one.rejection is None and content in wanted:
                record = one.moved(moves.get(content)).record
                copy = Member(record.path, record.split, record.label, content, group=record.group)
                copies[content].append(copy)
    return copies


def _limits(tables: Sequence[Table], settings: Settings) -> dict[str, Any]:
    """Compute the limits of the checks that need the set from the counts of all shards."""
    counts: dict[str, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    for table in tables:
        for name, counter in table.counts.items():
            counts[name].update(counter)
    return {
        check.name: check.limits(counts[check.name], check.threshold_in(settings))
        for check in CHECKS
        if check.limits is not None
    }
