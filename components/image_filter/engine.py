"""The engine that judges a set of images: inspect, decide, resolve groups, write.

Two drivers run it, Beam for ImageFilter and a thread pool for ``imgpipe check``, so that both give
the same answers. A set is cut into shards. The first pass decides about each image of a shard by
itself (`examine`) and leaves what the comparison needs in files, so that memory does not grow with
the number of images. When all shards are examined, the images with the same or nearly the same
content are found and resolved in groups (`imgpipe.components.image_filter.comparison`). The second
pass combines both (`settle`). Each image is read, decided about and written in the first pass; the
second one only takes out what the comparison rejected.
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
from imgpipe.components.image_record import ImageRecord
from imgpipe.models import progress

#: Check that needs the whole set → number that it counts → images that have it.
Counts = dict[str, collections.Counter[int]]


class Output(Protocol):
    """Where a driver writes the images of a shard."""

    def write(self, decision: Decision) -> str:
        """Write an image that passed the checks, or store one that did not.

        Returns:
            Where the bytes of a rejected image are stored, "" for nowhere.
        """
        ...

    def publish(self, removed: Sequence[Decision]) -> Mapping[str, str]:
        """Make what was written visible, without the images that the second pass rejected.

        An image that the first pass had rejected for another reason is among them, and its
        rejection says where its bytes are stored.

        Returns:
            Path of such an image → where its bytes are stored.
        """
        ...


def examine(
    records: Iterable[ImageRecord], settings: Settings, part: Part, output: Output
) -> Counts:
    """Decide about each image of a shard by itself: the first pass.

    Args:
        records: The images as inspected.
        settings: What the checks compare with.
        part: Where the decisions are left for the second pass.
        output: Where each image is written while its bytes are there.

    Returns:
        What the checks of the whole set count in the images that passed.
    """
    decisions: list[Decision] = []
    counts: Counts = {c.name: collections.Counter() for c in CHECKS if c.counted is not None}
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
    part.write(decisions)
    return counts


def add_counts(counts: Iterable[Counts]) -> Counts:
    """The sum of the counts of all shards."""
    total: Counts = {c.name: collections.Counter() for c in CHECKS if c.counted is not None}
    for one in counts:
        for name, counter in one.items():
            total[name].update(counter)
    return total


def with_limits(settings: Settings, counts: Counts) -> Settings:
    """The settings with the limits that the whole set gives."""
    limits = {
        check.name: check.limits(counts[check.name], check.threshold_in(settings))
        for check in CHECKS
        if check.limits is not None
    }
    return dataclasses.replace(settings, limits=limits)


def settle(
    part: Part, settings: Settings, findings: Mapping[bytes, Finding], output: Output
) -> Outcomes:
    """What becomes of the images of a shard, now that the whole set is known: the second pass.

    Args:
        part: What the first pass left.
        settings: What the checks compare with, `with_limits` of the set.
        findings: What the comparison with other images found, by path.
        output: Where the shard is written; see `examine`.
    """
    decisions, removed = [], []
    for first in part.decisions():
        decision = _settled(first, settings, findings)
        decisions.append(decision)
        if decision.rejection is not first.rejection:
            removed.append(decision)
    stored = output.publish(removed)
    outcomes = Outcomes()
    for decision in decisions:
        if place := stored.get(decision.record.path):
            decision = decision.stored_at(place)
        outcomes.add(decision)
    return outcomes


def _settled(decision: Decision, settings: Settings, findings: Mapping[bytes, Finding]) -> Decision:
    """The decision about one image with what the comparison with other images found."""
    decision = decide_in_set(decision, settings)
    finding = findings.get(os.fsencode(decision.record.path))
    if decision.rejection is not None or finding is None:
        return decision
    finding = finding.about(decision.record)
    if finding.severity == "reject":
        return dataclasses.replace(decision, rejection=finding)
    return dataclasses.replace(decision, warnings=(*decision.warnings, finding))
