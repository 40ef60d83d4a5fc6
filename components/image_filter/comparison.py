"""The way of a set of images through the filter: each on its own, all together, and the result.

Two drivers take it, Beam for ImageFilter and a loop for `imgpipe check`, so both give the same
results. `examine` decides about each image of a shard on its own and writes the decisions to a
file, the part of the shard. One process compares all images (`compare`): it searches for
near-duplicates, places the images in splits, and compares those of each group with each other.
`ImageComparison.finish` combines both; its driver writes each image once, to where it belongs.

Files with the same content hash form a group too. If the copies are in several splits, the one used
for evaluation is kept, so that no model is evaluated on an image that it was trained on. If the
copies have different labels, none is kept, because the correct label is unknown.
"""

from __future__ import annotations

import collections
import dataclasses
import pickle
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imgpipe.components.common.image_record import ImageRecord
from imgpipe.components.common.splits import HELD_OUT_FIRST
from imgpipe.components.common.storage.records import write_bytes
from imgpipe.components.image_filter import families, near_groups, placement
from imgpipe.components.image_filter.check import ImageFinding, JudgeSettings
from imgpipe.components.image_filter.checks import CHECKS, whole_set
from imgpipe.components.image_filter.decision import ImageDecision, Relatives, decide
from imgpipe.components.image_filter.families import Named
from imgpipe.components.image_filter.near_groups import Member, NearGroup
from imgpipe.components.image_filter.near_search import near_duplicates
from imgpipe.components.image_filter.placement import Move
from imgpipe.models import feature_names as names
from imgpipe.models import progress

DUPLICATE = "duplicate"
DUPLICATE_ACROSS_SPLITS = "duplicate_across_splits"
DUPLICATE_LABEL_CONFLICT = "label_conflict"
#: What to do about a rejected copy, by reason.
_REMEDIES = {
    DUPLICATE: "nothing is lost, because one copy is kept; delete the copy that you do not need",
    DUPLICATE_ACROSS_SPLITS: (
        "nothing is lost, because one copy is kept; delete that one to use this one"
    ),
    DUPLICATE_LABEL_CONFLICT: "keep the copy in the correct class, delete the others and run again",
}
_SHOWN = 10  # paths listed in a detail


def examine(
    records: Iterable[ImageRecord],
    settings: JudgeSettings,
    part: str,
    keep: Callable[[ImageRecord], None] | None = None,
) -> str:
    """Decide about each image of a shard on its own.

    Args:
        records: The inspected images.
        settings: Settings of the checks.
        part: Path or URI of the file to write; a second attempt writes the same.
        keep: Function that stores a repaired record, which is written in the end; None for none.

    Returns:
        `part`.
    """
    decisions = []
    for record in records:
        decision = decide(record, settings)
        if decision.repaired is not None and keep is not None:
            keep(decision.repaired)
        decisions.append(decision.without_pixels())
        progress.advance(1, "images")
    write_bytes(part, pickle.dumps(decisions, pickle.HIGHEST_PROTOCOL))
    return part


def _decisions(part: str) -> list[ImageDecision]:
    """Read the decisions that `examine` wrote, in the order of the shard."""
    import tensorflow as tf

    with tf.io.gfile.GFile(part, "rb") as file:
        decisions: list[ImageDecision] = pickle.loads(file.read())  # written by this pipeline
    return decisions


@dataclass(frozen=True)
class ImageComparison:
    """The result of the comparison.

    Attributes:
        findings: Findings by path.
        near: Groups of near-duplicates about which there is a finding, as `near_groups.line`
            returns them, in the order of their first paths.
        groups: Number of the group of near-duplicates, from 1 on, by content hash of the images
            that are in one.
        families: Name of the family, by content hash of the images that have one.
        in_train: Families that have images in train.
        moves: Images that are moved to another split, by content hash.
        limits: Limits of the checks that need the set, by check.
    """

    findings: Mapping[str, ImageFinding] = field(default_factory=dict)
    near: tuple[NearGroup, ...] = ()
    groups: Mapping[str, int] = field(default_factory=dict)
    families: Mapping[str, str] = field(default_factory=dict)
    in_train: frozenset[str] = frozenset()
    moves: Mapping[str, Move] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)

    def finish(self, part: str, settings: JudgeSettings) -> Iterator[ImageDecision]:
        """Yield the final decision about each image of a part, in the order of the shard."""
        settings = dataclasses.replace(settings, limits=self.limits)
        for decision in _decisions(part):
            content = decision.record.image_hash
            decision.move_to(self.moves.get(content))
            family = self.families.get(content, "")
            related = Relatives(self.groups.get(content, 0), family, family in self.in_train)
            decision.complete(settings, self.findings.get(decision.record.path), related)
            yield decision


def compare(parts: Sequence[str], settings: JudgeSettings) -> ImageComparison:
    """Compare all images in this process.

    Args:
        parts: The files that `examine` wrote; their order does not matter.
        settings: Settings of the checks.
    """
    rule = settings.splits
    images = _read_images(parts, settings)
    # Groups that a pattern or a column gives are the only ones.
    has_given_groups = len(images.named) < len(images.rows)
    wants_families = settings.groups == "auto" and not has_given_groups
    family_of = families.by_content(images.named) if wants_families else {}
    similar = near_duplicates(images.hashes, whole_set.radius(settings))
    groups = {content: 1 + number for content, number in similar.groups.items()}
    moves: dict[str, Move] = {}
    if rule is not None and rule.drawn:
        moves = dict(placement.place(images.rows, groups, rule, family_of))
    splits = images.splits | {content: move.split for content, move in moves.items()}
    in_train = frozenset(
        family for content, family in family_of.items() if splits[content] == names.TRAIN
    )

    def member(record: ImageRecord) -> Member:
        content = record.image_hash
        return Member(
            record.path,
            record.split,
            record.label,
            content,
            images.hashes.get(content, b""),
            family_of.get(content, record.group),
            similar.altered.get(content, {}),
        )

    copies = _copies(parts, {*groups, *images.repeated()}, moves, member)
    findings, near = _decide_groups(copies, groups, settings)
    limits = images.limits(settings)
    return ImageComparison(findings, near, groups, family_of, in_train, moves, limits)


@dataclass
class _Images:
    """What the comparison keeps in memory of the images that passed the checks.

    Attributes:
        times: Number of files by content hash.
        hashes: Perceptual hashes by content hash; empty when near-duplicates are not searched for.
        rows: The images as `placement` takes them.
        named: The images without a group, as `families` takes them.
        splits: Split by content hash, of the images without a group.
        counts: Numbers of images by what a check counts, by the name of the check.
    """

    times: Counter[str] = field(default_factory=Counter)
    hashes: dict[str, bytes] = field(default_factory=dict)
    rows: list[bytes] = field(default_factory=list)
    named: list[Named] = field(default_factory=list)
    splits: dict[str, str] = field(default_factory=dict)
    counts: dict[str, Counter[int]] = field(
        default_factory=lambda: collections.defaultdict(Counter)
    )

    def repeated(self) -> set[str]:
        """Return the content hashes of several files."""
        return {content for content, count in self.times.items() if count > 1}

    def limits(self, settings: JudgeSettings) -> dict[str, Any]:
        """Compute the limits of the checks that need the set, by check."""
        return {
            check.name: check.limits(self.counts[check.name], check.threshold_in(settings))
            for check in CHECKS
            if check.limits is not None
        }


def _read_images(parts: Sequence[str], settings: JudgeSettings) -> _Images:
    """Read what is compared of the images that passed the checks."""
    is_searched = whole_set.radius(settings) > 0
    images = _Images()
    for decision in _passed(parts):
        record = decision.record
        images.times[record.image_hash] += 1
        images.rows.append(placement.row(record, settings.splits, decision.is_relabelled))
        if not record.group:
            moment = (record.content.camera, record.content.captured)
            images.named.append(Named(record.path, record.label, record.image_hash, *moment))
            images.splits[record.image_hash] = record.split
        if is_searched:
            images.hashes[record.image_hash] = decision.perceptual_hash
        for check in CHECKS:
            if check.counted is not None:
                images.counts[check.name][check.counted(record)] += 1
    return images


def _decide_groups(
    copies: Mapping[str, Sequence[Member]], groups: Mapping[str, int], settings: JudgeSettings
) -> tuple[dict[str, ImageFinding], tuple[NearGroup, ...]]:
    """Decide about identical files, and about the near-duplicates that are left.

    Returns:
        The findings by path, and the groups of near-duplicates about which there is one.
    """
    findings: dict[str, ImageFinding] = {}
    near: dict[int, list[Member]] = collections.defaultdict(list)
    for content, members in copies.items():
        rejected = {finding.path: finding for finding in identical(members)}
        findings |= rejected
        left = [member for member in members if member.path not in rejected]
        if content in groups and left:  # a group whose images are all rejected is no group
            near[groups[content]] += left
    lines: list[NearGroup] = []
    for members in near.values():
        about_group = near_groups.resolve(members, settings)
        if about_group:
            findings |= {finding.path: finding for finding in about_group}
            lines.append(near_groups.line(members, whole_set.radius(settings), about_group))
    lines.sort(key=lambda line: line["members"][0]["path"])
    return findings, tuple(lines)


def _passed(parts: Iterable[str]) -> Iterator[ImageDecision]:
    """Yield the decisions about images that passed the checks."""
    for part in parts:
        yield from (decision for decision in _decisions(part) if decision.rejection is None)


def _copies(
    parts: Sequence[str],
    wanted: set[str],
    moves: Mapping[str, Move],
    member: Callable[[ImageRecord], Member],
) -> dict[str, list[Member]]:
    """Read the images that occur several times or have near-duplicates, by content hash."""
    copies: dict[str, list[Member]] = collections.defaultdict(list)
    for decision in _passed(parts) if wanted else ():
        content = decision.record.image_hash
        if content in wanted:
            decision.move_to(moves.get(content))
            copies[content].append(member(decision.record))
    return copies


def identical(copies: Sequence[Member]) -> list[ImageFinding]:
    """Decide which copies of one content are rejected.

    Args:
        copies: The images with the same content, in any order.

    Returns:
        One finding for each rejected copy, in the order of their paths.
    """
    group = sorted(copies, key=lambda copy: copy.path)
    if len({copy.label for copy in group}) > 1:
        return [_conflict(copy, group) for copy in group]
    kept = min(group, key=lambda copy: (HELD_OUT_FIRST.index(copy.split), copy.path))
    return [_drop(copy, kept) for copy in group if copy != kept]


def _conflict(copy: Member, group: Sequence[Member]) -> ImageFinding:
    others = [f"{c.path} ({c.label})" for c in group if c != copy]
    shown = ", ".join(others[:_SHOWN]) + (", …" if len(others) > _SHOWN else "")
    detail = f"labelled {copy.label}, but identical to {shown}"
    return ImageFinding(
        DUPLICATE_LABEL_CONFLICT, detail, remedy=_REMEDIES[DUPLICATE_LABEL_CONFLICT], path=copy.path
    )


def _drop(copy: Member, kept: Member) -> ImageFinding:
    reason = DUPLICATE
    detail = f"same bytes as {kept.path}"
    if copy.split != kept.split:
        reason = DUPLICATE_ACROSS_SPLITS
        detail += f", which is in {kept.split}; this one is in {copy.split}"
    remedy = _REMEDIES[reason]
    return ImageFinding(reason, detail, remedy=remedy, path=copy.path, kept_copy=kept.path)
