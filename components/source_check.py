"""Checks a source without Beam, TFX and training; it runs ImageFilter's engine in this process.

Decisions and hashes are stored in a temporary folder, so memory does not grow with the number of
images. The few images that are shown are read again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from imgpipe.components.common.image_record import ImageRecord
from imgpipe.components.common.splits import Groups, SplitRule
from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.settings import SourceOptions
from imgpipe.components.example_gen.sources import Scan, open_source
from imgpipe.components.image_filter import comparison
from imgpipe.components.image_filter.copies.near_duplicates import NearGroup
from imgpipe.components.image_filter.data_summary import DataSummary
from imgpipe.components.image_filter.judge import overrides
from imgpipe.components.image_filter.judge.overrides import Override
from imgpipe.components.image_filter.judge.settings import JudgeSettings
from imgpipe.components.image_filter.outcomes import Outcomes, check_conservation
from imgpipe.components.image_filter.settings import FilterPlan
from imgpipe.models.machine import progress

_SHARD = 1024  # images whose decisions are in memory at a time


@dataclass(frozen=True)
class SourceCheckPlan:
    """What to check, and with which settings.

    Attributes:
        options: How the source is read.
        settings: Settings of the checks.
        groups: How images that belong together are found.
        rule: The rule that draws the splits.
        overrides: People's decisions about single images.
        overrides_file: The file that holds them.
    """

    options: SourceOptions
    settings: JudgeSettings = field(default_factory=JudgeSettings)
    groups: Groups = "auto"
    rule: SplitRule = field(default_factory=SplitRule)
    overrides: tuple[Override, ...] = ()
    overrides_file: Path | None = None


@dataclass(frozen=True)
class JudgedSource:
    """The result of the checks.

    Attributes:
        scan: The listing of the source.
        summary: Counts of the images.
        outcomes: The findings, sorted by path.
        near: Groups of near-duplicates; None if they were not searched for.
        seconds: Duration of the checks.
    """

    scan: Scan
    summary: DataSummary
    outcomes: Outcomes
    near: tuple[NearGroup, ...] | None
    seconds: float


def judge(plan: SourceCheckPlan, keep: Callable[[ImageRecord], None] | None = None) -> JudgedSource:
    """Check all images of a source.

    Args:
        plan: What to check, and with which settings.
        keep: Function that gets the record of each kept image, without pixels.

    Raises:
        ConfigError: The source or the settings are invalid.
        RuntimeError: The numbers of kept and rejected files do not add up to the number of files,
            which is a defect.
    """
    began = time.monotonic()
    source = open_source(plan.options.source, plan.options)
    scan = source.listing()
    filtering = FilterPlan(
        settings=plan.settings,
        groups=plan.groups,
        vocabulary=tuple(scan.vocabulary),
        overrides=overrides.decisions(plan.overrides, scan.vocabulary, plan.overrides_file),
    )
    rule = dataclasses.replace(plan.rule, given=scan.given_splits)
    limit = plan.settings.pixel_limit
    records = inspect(source, scan.items, limit, plan.options.store, rule, scan.vocabulary)
    with tempfile.TemporaryDirectory(prefix="imgpipe-check-") as folder:
        parts = _examine(records, len(scan.items), filtering, folder)
        compared = comparison.compare(parts, filtering, rule)
        outcomes = Outcomes()
        for part in parts:
            for decision in compared.finish(part, plan.settings):
                outcomes.add(decision)
                if decision.rejection is None and keep is not None:
                    keep(decision.record)
    notes = [note.as_written() for note in scan.notes]
    outcomes = Outcomes.joined([outcomes])
    summary = outcomes.summary(filtering, notes, compared.near)
    check_conservation(summary, len(scan.items))
    return JudgedSource(
        scan=scan,
        summary=summary,
        outcomes=outcomes,
        near=compared.near if plan.settings.radius > 0 else None,
        seconds=time.monotonic() - began,
    )


def _examine(
    records: Generator[ImageRecord], count: int, filtering: FilterPlan, folder: str
) -> list[str]:
    """Decide about each image on its own; the parts are in the order of reading."""
    progress.total(count, "images")
    with contextlib.closing(records):
        return [
            comparison.examine(itertools.islice(records, _SHARD), filtering, f"{folder}/{start}")
            for start in range(0, count, _SHARD)
        ]


def read_images(
    plan: SourceCheckPlan, judged_source: JudgedSource, paths: Iterable[str]
) -> Iterator[tuple[str, bytes]]:
    """Read some images again, one after the other.

    Args:
        plan: The plan that was passed to `judge`.
        judged_source: The result of `judge`.
        paths: Paths of the wanted images.

    Yields:
        Path and encoded image of each file that can be read.
    """
    wanted = set(paths)
    source = open_source(plan.options.source, plan.options)
    for item in judged_source.scan.items:
        if item.path in wanted:
            with contextlib.suppress(OSError):
                yield item.path, source.read(item)
