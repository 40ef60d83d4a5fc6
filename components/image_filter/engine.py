"""The engine that checks a set of images in two passes.

Two drivers run it, Beam for ImageFilter and a thread pool for ``imgpipe check``, so both give the
same results. A set is divided into shards. The first pass (`examine`) decides about each image of a
shard on its own and writes the data for the comparison to files, so memory does not grow with the
number of images. Then one process compares all images with each other (`comparison.compare`). The
second pass (`settle`) combines the results; its driver writes each image once, to where it belongs.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator

from imgpipe.components.image_filter.check import Settings
from imgpipe.components.image_filter.checks import CHECKS
from imgpipe.components.image_filter.comparison import Comparison
from imgpipe.components.image_filter.decision import Decision, decide, settled
from imgpipe.components.image_filter.part import Part
from imgpipe.components.image_record import ImageRecord
from imgpipe.models import progress


def examine(
    records: Iterable[ImageRecord],
    settings: Settings,
    part: Part,
    keep: Callable[[ImageRecord], None] | None = None,
) -> None:
    """Run the first pass, which decides about each image of a shard on its own.

    Args:
        records: The inspected images.
        settings: Settings of the checks.
        part: Files in which the decisions are stored.
        keep: Function that stores a repaired record for the second pass; None when nothing is
            written.
    """
    decisions: list[Decision] = []
    counts: dict[str, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    for record in records:
        decision = decide(record, settings)
        if decision.rejection is None:
            for check in CHECKS:
                if check.counted is not None:
                    counts[check.name][check.counted(decision.record)] += 1
        if decision.repaired is not None and keep is not None:
            keep(decision.repaired)
        decisions.append(decision.without_pixels())
        progress.advance(1, "images")
    part.write(decisions, counts, settings.splits)


def settle(part: Part, settings: Settings, compared: Comparison) -> Iterator[Decision]:
    """Run the second pass, which combines the decisions with the results of the comparison.

    Args:
        part: Files that the first pass wrote.
        settings: Settings of the checks.
        compared: The result of the comparison of all images.

    Yields:
        The final decision about each image, in the order of the shard.
    """
    settings = dataclasses.replace(settings, limits=compared.limits)
    for decision in part.decisions():
        record = decision.record
        decision = decision.moved(compared.moves.get(record.image_hash))
        decision = settled(decision, settings, compared.findings.get(record.path))
        number = compared.groups.get(record.image_hash, 0)
        placed = dataclasses.replace(decision.record, near_group=number)
        yield dataclasses.replace(decision, record=placed)
