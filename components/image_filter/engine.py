"""The engine that checks a set of images: inspect, decide, resolve groups, write.

Two drivers run it, Beam for ImageFilter and a thread pool for ``imgpipe check``, so both give the
same results. A set is divided into shards. The first pass (`examine`) decides about each image of a
shard on its own and writes the data for the comparison to files, so memory does not grow with the
number of images. Then the images with the same or nearly the same content are found and resolved in
groups, and the images are placed in splits (`comparison` and `placement`). The second pass
(`settle`) combines the results. Each image is read and written in the first pass; the second pass
only removes images that the comparison rejected, and moves images to another split.
"""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from imgpipe.components.image_filter.check import Finding, Settings
from imgpipe.components.image_filter.checks import CHECKS
from imgpipe.components.image_filter.decision import Decision, decide, decide_in_set
from imgpipe.components.image_filter.outcomes import Outcomes
from imgpipe.components.image_filter.part import Part
from imgpipe.components.image_filter.placement import Move
from imgpipe.components.image_record import ImageRecord
from imgpipe.models import progress

#: For each check that needs the set: how many images have each number that the check counts.
Counts = dict[str, collections.Counter[int]]


class Output(Protocol):
    """The interface through which a driver writes the images of a shard."""

    def write(self, decision: Decision) -> str:
        """Write an image that passed the checks, or store a rejected one.

        Returns:
            Path of the stored bytes relative to the quarantine; "" when nothing is stored.
        """
        ...

    def publish(self, removed: Sequence[Decision], moved: Sequence[Decision]) -> Mapping[str, str]:
        """Publish the written images, without those that the second pass rejected.

        Args:
            removed: Decisions that the second pass changed to a rejection. If the first pass had
                already rejected the image for another reason, the rejection has the path of the
                stored bytes.
            moved: Decisions about the kept images that are moved to another split.

        Returns:
            The paths of the stored bytes, by path of the image.
        """
        ...


def examine(
    records: Iterable[ImageRecord], settings: Settings, part: Part, output: Output
) -> Counts:
    """Run the first pass, which decides about each image of a shard on its own.

    Args:
        records: The inspected images.
        settings: Settings of the checks.
        part: Files in which the decisions are stored for the second pass.
        output: Where the images are written.

    Returns:
        The counts of the images that passed, for the checks that need the set.
    """
    decisions: list[Decision] = []
    counts = _no_counts()
    for record in records:
        decision = decide(record, settings)
        stored = output.write(decision)
        if decision.rejection is not None:
            decision = decision.stored_at(stored)
        else:
            for check in CHECKS:
                if check.counted is not None:
                    counts[check.name][check.counted(decision.record)] += 1
        decisions.append(decision.without_pixels())
        progress.advance(1, "images")
    part.write(decisions, settings.splits)
    return counts


def _no_counts() -> Counts:
    return {c.name: collections.Counter() for c in CHECKS if c.counted is not None}


def add_counts(counts: Iterable[Counts]) -> Counts:
    """Add up the counts of all shards."""
    total = _no_counts()
    for one in counts:
        for name, counter in one.items():
            total[name].update(counter)
    return total


def with_limits(settings: Settings, counts: Counts) -> Settings:
    """Return the settings with the limits computed from the whole set."""
    limits = {
        check.name: check.limits(counts[check.name], check.threshold_in(settings))
        for check in CHECKS
        if check.limits is not None
    }
    return dataclasses.replace(settings, limits=limits)


def settle(
    part: Part,
    settings: Settings,
    findings: Mapping[bytes, Finding],
    output: Output,
    moves: Mapping[str, Move] | None = None,
) -> Outcomes:
    """Run the second pass, which combines the decisions with the findings of the comparison.

    Args:
        part: Files that the first pass wrote.
        settings: Settings of the checks, from `with_limits`.
        findings: Findings of the comparison with other images, by `Finding.key`.
        output: Where the images were written in the first pass.
        moves: Images that are moved to another split, by content hash.

    Returns:
        The counts and findings of the shard.
    """
    decisions, removed, moved = [], [], []
    for first in part.decisions():
        placed = first.moved((moves or {}).get(first.record.image_hash))
        decision = _settled(placed, settings, findings)
        decisions.append(decision)
        if decision.rejection is not first.rejection:
            removed.append(decision)
        elif decision.move is not None:
            moved.append(decision)
    stored = output.publish(removed, moved)
    outcomes = Outcomes()
    for decision in decisions:
        if path := stored.get(decision.record.path):
            decision = decision.stored_at(path)
        outcomes.add(decision)
    return outcomes


def _settled(decision: Decision, settings: Settings, findings: Mapping[bytes, Finding]) -> Decision:
    """Combine the decision about one image with the finding of the comparison."""
    decision = decide_in_set(decision, settings)
    finding = findings.get(os.fsencode(decision.record.path))
    if decision.rejection is not None or finding is None:
        return decision
    finding = finding.about(decision.record)
    if finding.severity == "reject":
        return dataclasses.replace(decision, rejection=finding)
    return dataclasses.replace(decision, warnings=(*decision.warnings, finding))
