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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from imgpipe.components.common.splits import SplitRule
from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.sources import Scan, Source, SourceOptions, open_source
from imgpipe.components.image_filter import comparison
from imgpipe.components.image_filter.check import JudgeSettings
from imgpipe.components.image_filter.checks import validate
from imgpipe.components.image_filter.checks.whole_set import radius
from imgpipe.components.image_filter.data_summary import DataSummary
from imgpipe.components.image_filter.near_groups import NearGroup
from imgpipe.components.image_filter.overrides import Override, resolve
from imgpipe.components.image_filter.quarantine import Outcomes, check_conservation
from imgpipe.components.run_record.galleries import Gallery, GallerySample
from imgpipe.models import progress

_SHARD = 1024  # images whose decisions are in memory at a time


@dataclass(frozen=True)
class SourceCheckPlan:
    """What to check, and with which settings.

    Attributes:
        source: The source of the images.
        settings: Settings of the checks.
        options: Options of the source.
        rule: The rule that draws the splits.
        overrides: People's decisions about single images.
        store: Folder of the inspection cache, "" for none.
    """

    source: str
    settings: JudgeSettings = field(default_factory=JudgeSettings)
    options: SourceOptions = field(default_factory=SourceOptions)
    rule: SplitRule = field(default_factory=SplitRule)
    overrides: tuple[Override, ...] = ()
    store: str = ""


@dataclass(frozen=True)
class JudgedSource:
    """The result of the checks.

    Attributes:
        scan: The listing of the source.
        summary: Counts of the images.
        outcomes: The findings, sorted by path.
        near: Groups of near-duplicates; None if they were not searched for.
        seconds: Duration of the checks.
        galleries: Some kept images of each class.
    """

    scan: Scan
    summary: DataSummary
    outcomes: Outcomes
    near: tuple[NearGroup, ...] | None
    seconds: float
    galleries: list[Gallery] = field(default_factory=list)


def judge(plan: SourceCheckPlan) -> JudgedSource:
    """Check all images of a source.

    Args:
        plan: What to check, and with which settings.

    Raises:
        ConfigError: The source or the settings are invalid.
        RuntimeError: The numbers of kept and rejected files do not add up to the number of files,
            which is a defect.
    """
    validate(plan.settings)
    began = time.monotonic()
    source = open_source(plan.source, dataclasses.replace(plan.options, store=plan.store))
    scan = source.listing()
    overrides = resolve(plan.overrides, scan.vocabulary)
    rule = dataclasses.replace(plan.rule, given=scan.given_splits)
    settings = dataclasses.replace(plan.settings, overrides=overrides, splits=rule)
    plan = dataclasses.replace(plan, settings=settings, rule=rule)
    with tempfile.TemporaryDirectory(prefix="imgpipe-check-") as folder:
        parts = _examine(plan, source, scan, folder)
        compared = comparison.compare(parts, settings)
        outcomes = Outcomes()
        sample = GallerySample(len(scan.vocabulary))
        for part in parts:
            for decision in compared.finish(part, settings):
                outcomes.add(decision)
                if decision.rejection is None:
                    record = decision.record
                    sample.add(record.label, record.path, record.image_hash)
    notes = [note.as_written() for note in scan.notes]
    outcomes = Outcomes.joined([outcomes])
    summary = outcomes.summary(scan.vocabulary, notes, settings, compared.near)
    check_conservation(summary, len(scan.items))
    return JudgedSource(
        scan=scan,
        summary=summary,
        outcomes=outcomes,
        near=compared.near if radius(settings) > 0 else None,
        seconds=time.monotonic() - began,
        galleries=sample.galleries(scan.vocabulary),
    )


def _examine(plan: SourceCheckPlan, source: Source, scan: Scan, folder: str) -> list[str]:
    """Decide about each image on its own; the parts are in the order of reading."""
    progress.total(len(scan.items), "images")
    items = scan.items
    limit = plan.settings.pixel_limit
    records = inspect(source, items, limit, plan.store, plan.rule, scan.vocabulary)
    with contextlib.closing(records):
        return [
            comparison.examine(
                itertools.islice(records, _SHARD), plan.settings, f"{folder}/{start}"
            )
            for start in range(0, len(items), _SHARD)
        ]


def read_images(
    plan: SourceCheckPlan, judged: JudgedSource, paths: Iterable[str]
) -> Iterator[tuple[str, bytes]]:
    """Read some images again, one after the other.

    Args:
        plan: The plan that was passed to `judge`.
        judged: The result of `judge`.
        paths: Paths of the wanted images.

    Yields:
        Path and encoded image of each file that can be read.
    """
    wanted = set(paths)
    source = open_source(plan.source, plan.options)
    for item in judged.scan.items:
        if item.path in wanted:
            with contextlib.suppress(OSError):
                yield item.path, source.read(item)
