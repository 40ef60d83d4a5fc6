"""Checks a source without Beam, TFX and training; it runs ImageFilter's engine in this process.

A row of each image is in memory, without its bytes. The few images that are shown are read again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from imgpipe.components.common.splits import Groups, SplitRule
from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.settings import SourceOptions
from imgpipe.components.example_gen.sources import Scan, open_source
from imgpipe.components.image_filter import comparison
from imgpipe.components.image_filter.data_summary import DataSummary
from imgpipe.components.image_filter.image_table import ImageTable
from imgpipe.components.image_filter.judge import overrides
from imgpipe.components.image_filter.judge.overrides import Override
from imgpipe.components.image_filter.judge.settings import JudgeSettings
from imgpipe.components.image_filter.settings import FilterPlan
from imgpipe.components.image_filter.summary import check_conservation, summarise
from imgpipe.models.machine import progress


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
        images: All images, and what was found in them.
        seconds: Duration of the checks.
    """

    scan: Scan
    summary: DataSummary
    images: ImageTable
    seconds: float


def judge(plan: SourceCheckPlan) -> JudgedSource:
    """Check all images of a source.

    Args:
        plan: What to check, and with which settings.

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
    progress.total(len(scan.items), "images")
    with contextlib.closing(records):
        examined = [*comparison.examine(records, filtering)]
    rows = [row for row, _ in examined]
    images = comparison.compare(rows, (hashes for _, hashes in examined), filtering, rule)
    summary = summarise(images, filtering, scan.notes)
    check_conservation(summary, len(scan.items))
    return JudgedSource(scan, summary, images, time.monotonic() - began)


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
