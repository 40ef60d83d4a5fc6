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
from collections.abc import Callable, Iterable, Mapping, Sequence

from imgpipe.components.image_filter.check import Finding, Settings
from imgpipe.components.image_filter.checks import CHECKS
from imgpipe.components.image_filter.decision import Decision, decide, settled
from imgpipe.components.image_filter.outcomes import Outcomes
from imgpipe.components.image_filter.part import Part
from imgpipe.components.image_filter.placement import Move
from imgpipe.components.image_record import ImageRecord
from imgpipe.models import progress

#: For each check that needs the set: how many images have each number that the check counts.
Counts = dict[str, collections.Counter[int]]

#: Writes an image that passed the checks, or stores a rejected one. Returns the decision, with the
#: path of the stored bytes.
Write = Callable[[Decision], Decision]
#: Publishes the written images of a shard. The arguments are the decisions that the second pass
#: changed to a rejection, and those about kept images that are moved to another split. If the first
#: pass had already rejected an image for another reason, its rejection has the path of the stored
#: bytes. Returns the paths of the stored bytes, by path of the image.
Publish = Callable[[Sequence[Decision], Sequence[Decision]], Mapping[str, str]]


def examine(
    records: Iterable[ImageRecord], settings: Settings, part: Part, write: Write | None = None
) -> Counts:
    """Run the first pass, which decides about each image of a shard on its own.

    Args:
        records: The inspected images.
        settings: Settings of the checks.
        part: Files in which the decisions are stored for the second pass.
        write: Function that writes each image; None when nothing is written.

    Returns:
        The counts of the images that passed, for the checks that need the set.
    """
    decisions: list[Decision] = []
    counts: Counts = {}
    for record in records:
        decision = decide(record, settings)
        if write is not None:
            decision = write(decision)
        if decision.rejection is None:
            for check in CHECKS:
                if check.counted is not None:
                    counter = counts.setdefault(check.name, collections.Counter())
                    counter[check.counted(decision.record)] += 1
        decisions.append(decision.without_pixels())
        progress.advance(1, "images")
    part.write(decisions, settings.splits)
    return counts


def add_counts(counts: Iterable[Counts]) -> Counts:
    """Add up the counts of all shards."""
    total: Counts = {}
    for one in counts:
        for name, counter in one.items():
            total.setdefault(name, collections.Counter()).update(counter)
    return total


def with_limits(settings: Settings, counts: Counts) -> Settings:
    """Return the settings with the limits computed from the whole set."""
    limits = {
        check.name: check.limits(counts.get(check.name, {}), check.threshold_in(settings))
        for check in CHECKS
        if check.limits is not None
    }
    return dataclasses.replace(settings, limits=limits)


def settle(
    part: Part,
    settings: Settings,
    findings: Mapping[bytes, Finding],
    moves: Mapping[str, Move],
    publish: Publish | None = None,
) -> Outcomes:
    """Run the second pass, which combines the decisions with the findings of the comparison.

    Args:
        part: Files that the first pass wrote.
        settings: Settings of the checks, from `with_limits`.
        findings: Findings of the comparison with other images, by `Finding.key`.
        moves: Images that are moved to another split, by content hash.
        publish: Function that publishes what the first pass wrote; None when it wrote nothing.

    Returns:
        The counts and findings of the shard.
    """
    decisions, removed, moved = [], [], []
    for first in part.decisions():
        record = first.record
        finding = findings.get(os.fsencode(record.path))
        decision = settled(first.moved(moves.get(record.image_hash)), settings, finding)
        decisions.append(decision)
        if decision.rejection is not first.rejection:
            removed.append(decision)
        elif decision.move is not None:
            moved.append(decision)
    stored = publish(removed, moved) if publish is not None else {}
    outcomes = Outcomes()
    for decision in decisions:
        if path := stored.get(decision.record.path):
            decision = decision.stored_at(path)
        outcomes.add(decision)
    return outcomes
