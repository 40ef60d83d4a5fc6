"""What is counted and said of a set of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from imgpipe.components.image_filter import data_summary, file_clues, findings
from imgpipe.components.image_filter.data_summary import (
    DataCounts,
    DataSummary,
    Families,
    Overrides,
)
from imgpipe.components.image_filter.image_table import ImageTable
from imgpipe.components.image_filter.judge.check import Row
from imgpipe.components.image_filter.judge.checks.decodable import TRANSCODED
from imgpipe.components.image_filter.judge.overrides import override_of
from imgpipe.components.image_filter.settings import FilterPlan
from imgpipe.models.finding import Finding
from imgpipe.models.names import feature_names as names
from imgpipe.serving.look import PIXEL_LIMIT
from imgpipe.serving.server.settings import DEFAULT_MAX_MESSAGE_BYTES

_FAMILIES_SHOWN = 10


def summarise(images: ImageTable, plan: FilterPlan, notes: Sequence[Finding]) -> DataSummary:
    """Count the images, and say what was found out about them.

    Args:
        images: All images of the source.
        plan: What ImageFilter gets.
        notes: Notes of the source, most of them about files that were not read as images.
    """
    counts = _counts(images, plan)
    by_class = Counter(row.label for row in images.kept)
    listed = [
        *findings.of_images("rejected", images.rejected),
        *findings.of_images("repaired", images.repaired),
        *findings.of_images("warned", images.warned),
        *findings.of_source(notes, by_class),
        *data_summary.of_counts(counts),
    ]
    return {**counts, "findings": listed}


def _counts(images: ImageTable, plan: FilterPlan) -> DataCounts:
    by_split = {split: dict.fromkeys(plan.vocabulary, 0) for split in names.SPLITS}
    by_place = Counter((row.split, row.label) for row in images.kept)
    for (split, label), count in sorted(by_place.items()):
        by_split[split][label] = count
    transcoded = Counter(row.format for row in images.kept if row.has(TRANSCODED))
    return {
        "in": len(images.rows),
        "kept": by_place.total(),
        "rejected": len(images.rejected),
        "repaired": len(images.repaired),
        "transcoded": dict(sorted(transcoded.items())),
        "too_large": sum(
            row.pixels > PIXEL_LIMIT or row.byte_size > DEFAULT_MAX_MESSAGE_BYTES
            for row in images.kept
        ),
        "by_reason": _by_reason(images.rejected),
        "by_split": by_split,
        "families": _families(images),
        "file_clues": file_clues.clues_of(images.kept),
        "overrides": _overrides(images, plan),
    }


def _overrides(images: ImageTable, plan: FilterPlan) -> Overrides:
    """Count the effects of the overrides."""
    # A decision about an image is one, however many identical files there are.
    applied = {(effect["reason"], effect["image_hash"]): effect for effect in images.reviewed}
    relabelled = Counter(row.split for row in images.kept if row.label != row.source_label)
    unknown = {override.image_hash for override in plan.overrides_by_hash.values()}
    for effect in images.reviewed:
        override = override_of(effect["image_hash"], plan.overrides_by_hash)
        if override is not None:
            unknown.discard(override.image_hash)
    return {
        "applied": _by_reason(applied.values()),
        "relabelled": {split: relabelled[split] for split in names.SPLITS},
        "unknown": sorted(unknown),
    }


def _families(images: ImageTable) -> Families:
    """Count the images of families; those without one have the family ""."""
    by_place = Counter((row.group, row.split) for row in images.kept)
    sizes: Counter[str] = Counter()
    independent = dict.fromkeys(names.SPLITS, 0)
    divided = dict.fromkeys((names.VALIDATION, names.TEST), 0)
    for (family, split), count in by_place.items():
        sizes[family] += count
        independent[split] += 1 if family else count
        if family and split in divided and by_place[family, names.TRAIN]:
            divided[split] += count
    del sizes[""]
    # A family of which one image is kept, as beside its rejected copies, joins nothing.
    several = Counter({name: count for name, count in sizes.items() if count > 1})
    largest = sorted(several.items(), key=lambda item: (-item[1], item[0]))
    return {
        "found": any(row.is_family for row in images.kept),
        "families": len(several),
        "images": several.total(),
        "examples": [{"name": name, "images": count} for name, count in largest[:_FAMILIES_SHOWN]],
        "independent": independent,
        "divided": divided,
    }


def check_conservation(summary: DataSummary, ingested: int | None) -> None:
    """Check that every image was either kept or rejected.

    Raises:
        RuntimeError: Images were lost or counted twice, which is a defect.
    """
    out = summary["kept"] + summary["rejected"]
    if summary["in"] != out or ingested not in (None, summary["in"]):
        raise RuntimeError(
            f"images were lost in the filter: {ingested} ingested, {summary['in']} read, "
            f"{summary['kept']} kept + {summary['rejected']} rejected; this is a defect"
        )


def _by_reason(rows: Iterable[Row]) -> dict[str, int]:
    return dict(sorted(Counter(row["reason"] for row in rows).items()))
