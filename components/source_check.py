"""Checks a source without Beam, TFX and training; it runs ImageFilter's engine in a thread pool.

Decisions and hashes are stored in a temporary folder, so memory does not grow with the number of
images. The few images that are shown are read again.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.sources import Scan, Source, SourceOptions, open_source
from imgpipe.components.example_gen.sources.items import in_reading_order
from imgpipe.components.image_filter import comparison, engine, quarantine
from imgpipe.components.image_filter.check import Finding, Settings
from imgpipe.components.image_filter.checks import validate
from imgpipe.components.image_filter.checks.near_duplicate import radius
from imgpipe.components.image_filter.outcomes import totals
from imgpipe.components.image_filter.overrides import Override, resolve
from imgpipe.components.image_filter.part import Part
from imgpipe.components.splits import SplitRule
from imgpipe.models import progress

_SHARD = 1024  # files per tf.data pipeline, enough to make its start (about 50 ms) negligible
_THREADS = 8  # more threads only use more memory, because each one has tf.data's own threads


@dataclass(frozen=True)
class Plan:
    """What to check, and with which settings."""

    source: str
    settings: Settings = field(default_factory=Settings)
    options: SourceOptions = field(default_factory=SourceOptions)
    rule: SplitRule = field(default_factory=SplitRule)
    overrides: tuple[Override, ...] = ()
    store: str = ""  # folder of the inspection cache, "" for none


@dataclass(frozen=True)
class Judged:
    """The result of the checks; findings are sorted by path."""

    scan: Scan
    summary: Mapping[str, Any]  # from `quarantine.summarise`
    rejects: tuple[Finding, ...]
    repairs: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    reviews: tuple[Finding, ...]
    near: tuple[Mapping[str, Any], ...] | None  # near-duplicates; None: not searched
    seconds: float


def judge(plan: Plan) -> Judged:
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
    source = open_source(plan.source, plan.options)
    scan = source.listing()
    overrides = resolve(plan.overrides, scan.vocabulary)
    rule = dataclasses.replace(plan.rule, given=scan.given_splits)
    settings = dataclasses.replace(plan.settings, overrides=overrides, splits=rule)
    plan = dataclasses.replace(plan, settings=settings, rule=rule)
    with tempfile.TemporaryDirectory(prefix="imgpipe-check-") as folder:
        parts, counts = _examine(plan, source, scan, folder)
        compared = comparison.compare(parts, settings)
        settings = engine.with_limits(settings, counts)
        outcomes = [
            engine.settle(part, settings, compared.findings, compared.moves) for part in parts
        ]
    notes = [dataclasses.asdict(note) for note in scan.notes]
    found = totals(outcomes, scan.vocabulary, notes, settings)
    summary = quarantine.summarise(**found)
    quarantine.check_conservation(summary, len(scan.items))
    return Judged(
        scan=scan,
        summary=summary,
        rejects=quarantine.ordered(found["rejects"]),
        repairs=quarantine.ordered(found["repairs"]),
        warnings=quarantine.ordered(found["warnings"]),
        reviews=quarantine.ordered(found["reviews"]),
        near=compared.near if radius(settings) > 0 else None,
        seconds=time.monotonic() - began,
    )


def _examine(
    plan: Plan, source: Source, scan: Scan, folder: str
) -> tuple[list[Part], engine.Counts]:
    """Run the first pass over all shards in threads; the parts are in the order of reading."""
    # Imported once here, because threads that import it at the same time hang.
    import tensorflow  # noqa: F401

    threads = min(len(os.sched_getaffinity(0)), _THREADS)  # cores this process may use
    size = max(1, min(_SHARD, -(-len(scan.items) // threads)))
    items = in_reading_order(scan.items)
    progress.total(len(scan.items), "images")

    def examine(start: int) -> tuple[Part, engine.Counts]:
        part = Part(f"{folder}/{start}")
        records = inspect(
            source,
            items[start : start + size],
            plan.settings.pixel_limit,
            plan.store,
            plan.rule,
            scan.vocabulary,
        )
        return part, engine.examine(records, plan.settings, part)

    pool = concurrent.futures.ThreadPoolExecutor(threads, "judge")
    try:
        examined = list(pool.map(examine, range(0, len(scan.items), size)))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for shards that have not begun
    return [part for part, _ in examined], engine.add_counts(counts for _, counts in examined)


def read_images(plan: Plan, judged: Judged, paths: Iterable[str]) -> dict[str, bytes]:
    """Read some images again.

    Args:
        plan: The plan that was passed to `judge`.
        judged: The result of `judge`.
        paths: Paths of the wanted images.

    Returns:
        Encoded images by path, without those that cannot be read.
    """
    wanted = set(paths)
    source = open_source(plan.source, plan.options)
    found = {}
    for item in judged.scan.items:
        if item.path in wanted:
            try:
                found[item.path] = source.read(item)
            except OSError:
                continue
    return found
