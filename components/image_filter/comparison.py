"""The way of a set of images through the filter: each on its own, all together, and the result.

Two drivers take it, Beam for ImageFilter and a loop for `imgpipe check`, so both give the same
results. `examine` decides about each image of a shard on its own and writes the decisions to a
file, the part of the shard. One process compares all images (`compare`): it searches for copies,
places the images in splits, and decides about the copies. `ImageComparison.finish` combines both;
its driver writes each image once, to where it belongs.
"""

from __future__ import annotations

import collections
import pickle
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from imgpipe.components.common.image_record import ImageRecord
from imgpipe.components.common.splits import SplitRule
from imgpipe.components.common.storage.records import write_bytes
from imgpipe.components.image_filter.copies import identical, near_duplicates
from imgpipe.components.image_filter.copies.copy import Copy
from imgpipe.components.image_filter.copies.near_duplicates import NearGroup
from imgpipe.components.image_filter.copies.search import find_near_duplicates
from imgpipe.components.image_filter.judge.check import ImageFinding, Limits
from imgpipe.components.image_filter.judge.checks import CHECKS
from imgpipe.components.image_filter.judge.decision import ImageDecision, ImageGroups, Move, decide
from imgpipe.components.image_filter.judge.settings import JudgeSettings
from imgpipe.components.image_filter.placement import families, placement
from imgpipe.components.image_filter.placement.families import FileOrigin
from imgpipe.components.image_filter.settings import FilterPlan
from imgpipe.models.machine import progress
from imgpipe.models.names import feature_names as names


def examine(
    records: Iterable[ImageRecord],
    plan: FilterPlan,
    part: str,
    keep: Callable[[ImageRecord], None] | None = None,
) -> str:
    """Decide about each image of a shard on its own.

    Args:
        records: The inspected images.
        plan: What ImageFilter gets.
        part: Path or URI of the file to write; a second attempt writes the same.
        keep: Function that stores a repaired record, which is written in the end; None for none.

    Returns:
        `part`.
    """
    decisions = []
    for record in records:
        decision = decide(record, plan.settings, plan.overrides_by_hash)
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
        near: Groups of near-duplicates about which there is a finding, as `listed_group`
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
    limits: Mapping[str, Limits] = field(default_factory=dict)

    def finish(self, part: str, settings: JudgeSettings) -> Iterator[ImageDecision]:
        """Yield the final decision about each image of a part, in the order of the shard."""
        for decision in _decisions(part):
            content = decision.record.image_hash
            decision.move_to(self.moves.get(content))
            family = self.families.get(content, "")
            groups = ImageGroups(self.groups.get(content, 0), family, family in self.in_train)
            compared = self.findings.get(decision.record.path)
            decision.complete(settings, self.limits, compared, groups)
            yield decision


def compare(parts: Sequence[str], plan: FilterPlan, rule: SplitRule | None) -> ImageComparison:
    """Compare all images in this process.

    Args:
        parts: The files that `examine` wrote; their order does not matter.
        plan: What ImageFilter gets.
        rule: The rule that has drawn the splits. None: no image is moved.
    """
    images = _read_images(parts, plan.settings, rule)
    # Groups that a pattern or a column gives are the only ones.
    has_given_groups = len(images.ungrouped) < len(images.rows)
    wants_families = plan.groups == "auto" and not has_given_groups
    family_of = families.by_content(images.ungrouped) if wants_families else {}
    similar = find_near_duplicates(images.hashes, plan.settings.radius)
    groups = {content: 1 + number for content, number in similar.groups.items()}
    moves: dict[str, Move] = {}
    if rule is not None and rule.drawn:
        moves = dict(placement.place(images.rows, groups, rule, family_of))
    splits = images.splits | {content: move.split for content, move in moves.items()}
    in_train = frozenset(
        family for content, family in family_of.items() if splits[content] == names.TRAIN
    )

    def copy_of(record: ImageRecord) -> Copy:
        content = record.image_hash
        return Copy(
            record.path,
            record.split,
            record.label,
            content,
            images.hashes.get(content, b""),
            family_of.get(content, record.group),
            similar.altered.get(content, {}),
        )

    copies = _read_copies(parts, {*groups, *images.repeated()}, moves, copy_of)
    findings, near = _decide_groups(copies, groups, plan)
    limits = images.limits(plan.settings)
    return ImageComparison(findings, near, groups, family_of, in_train, moves, limits)


@dataclass
class _Images:
    """What the comparison keeps in memory of the images that passed the checks.

    Attributes:
        times: Number of files by content hash.
        hashes: Perceptual hashes by content hash; empty when near-duplicates are not searched for.
        rows: The images as `placement` takes them.
        ungrouped: The images without a group, as `families` takes them.
        splits: Split by content hash, of the images without a group.
        counts: Numbers of images by what a check counts, by the name of the check.
    """

    times: Counter[str] = field(default_factory=Counter)
    hashes: dict[str, bytes] = field(default_factory=dict)
    rows: list[bytes] = field(default_factory=list)
    ungrouped: list[FileOrigin] = field(default_factory=list)
    splits: dict[str, str] = field(default_factory=dict)
    counts: dict[str, Counter[int]] = field(
        default_factory=lambda: collections.defaultdict(Counter)
    )

    def repeated(self) -> set[str]:
        """Return the content hashes of several files."""
        return {content for content, count in self.times.items() if count > 1}

    def limits(self, settings: JudgeSettings) -> dict[str, Limits]:
        """Compute the limits of the checks that need the set, by check."""
        return {
            check.name: check.limits(self.counts[check.name], settings.limit_of(check))
            for check in CHECKS
            if check.limits is not None
        }


def _read_images(parts: Sequence[str], settings: JudgeSettings, rule: SplitRule | None) -> _Images:
    """Read what is compared of the images that passed the checks."""
    is_searched = settings.radius > 0
    images = _Images()
    for decision in _passed(parts):
        record = decision.record
        images.times[record.image_hash] += 1
        images.rows.append(placement.row(record, rule, decision.is_relabelled))
        if not record.group:
            images.ungrouped.append(families.origin(record))
            images.splits[record.image_hash] = record.split
        if is_searched:
            images.hashes[record.image_hash] = decision.perceptual_hash
        for check in CHECKS:
            if check.counted is not None:
                images.counts[check.name][check.counted(record)] += 1
    return images


def _decide_groups(
    copies: Mapping[str, Sequence[Copy]], groups: Mapping[str, int], plan: FilterPlan
) -> tuple[dict[str, ImageFinding], tuple[NearGroup, ...]]:
    """Decide about identical files, and about the near-duplicates that are left.

    Returns:
        The findings by path, and the groups of near-duplicates about which there is one.
    """
    findings: dict[str, ImageFinding] = {}
    left: dict[int, list[Copy]] = collections.defaultdict(list)
    for content, files in copies.items():
        rejected = {finding.path: finding for finding in identical.rejections(files)}
        findings |= rejected
        others = [file for file in files if file.path not in rejected]
        if content in groups and others:  # a group whose images are all rejected is no group
            left[groups[content]] += others
    listed: list[NearGroup] = []
    for group in left.values():
        about_group = near_duplicates.findings_in_group(
            group, plan.settings, plan.overrides_by_hash
        )
        if about_group:
            findings |= {finding.path: finding for finding in about_group}
            listed.append(near_duplicates.listed_group(group, plan.settings.radius, about_group))
    listed.sort(key=lambda group: group["members"][0]["path"])
    return findings, tuple(listed)


def _passed(parts: Iterable[str]) -> Iterator[ImageDecision]:
    """Yield the decisions about images that passed the checks."""
    for part in parts:
        yield from (decision for decision in _decisions(part) if decision.rejection is None)


def _read_copies(
    parts: Sequence[str],
    wanted: set[str],
    moves: Mapping[str, Move],
    copy_of: Callable[[ImageRecord], Copy],
) -> dict[str, list[Copy]]:
    """Read the images that occur several times or have near-duplicates, by content hash."""
    copies: dict[str, list[Copy]] = collections.defaultdict(list)
    for decision in _passed(parts) if wanted else ():
        content = decision.record.image_hash
        if content in wanted:
            decision.move_to(moves.get(content))
            copies[content].append(copy_of(decision.record))
    return copies
