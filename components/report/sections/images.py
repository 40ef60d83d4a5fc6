"""The images: counts, rejected files, near-duplicates and doubtful labels."""

from __future__ import annotations

import collections
import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from imgpipe.components.common.formatting import capped
from imgpipe.components.image_filter.findings import Finding, not_used, title_of
from imgpipe.components.image_filter.judge.check import Row
from imgpipe.components.report.commands import review_command
from imgpipe.components.report.page_facts import PageFacts
from imgpipe.components.report.section import Context, Section, SectionContent
from imgpipe.components.run_record.doubtful_labels import clear
from imgpipe.components.run_record.facts import Facts
from imgpipe.models.names import feature_names as names

#: Number of images shown for each kind of warning, the worst first.
IMAGES = 6


def build_data(context: Context) -> SectionContent:
    """Collect counts, images by split and class, findings and DataGate's decision."""
    data = context.facts["data"]
    if data is None:
        return context.absent("No file was inspected")
    splits = data["by_split"]
    shown = [*names.SPLITS, *(split for split in splits if split not in names.SPLITS)]
    held = (name for split in splits.values() for name in split)
    classes = list(dict.fromkeys([*context.vocabulary, *held]))
    rows = [(name, [_count(splits, split, name) for split in shown]) for name in classes]
    totals = [sum(column) for column in zip(*(row[1] for row in rows), strict=True)]
    capped_rows, rows_note = capped(rows, lambda row: sum(row[1]))
    found = data["findings"]
    return {
        "data": data,
        "adds_up": data["in"] == data["kept"] + data["rejected"],
        "splits": shown,
        "rows": capped_rows,
        "rows_note": rows_note,
        "totals": totals or [0] * len(shown),
        "warnings": [_entry(one, context) for one in found if one["fate"] == "warned"],
        "notes": [
            _entry(one, context)
            for one in found
            if one["fate"] in ("not_used", "noted") and one["examples"]
        ],
        "repairs": ", ".join(
            f"{one['count']:,} {one['title']}" for one in found if one["fate"] == "repaired"
        ),
        "not_used": not_used(found),
        "findings": [one for one in found if one["fate"] == "noted" and not one["decides"]],
        "gate": context.facts["data_gate"],
        "reasons": context.data_reasons,
        "refused": context.state.status == "refused",
    }


def _count(splits: Mapping[str, Mapping[str, int]], split: str, label: str) -> int:
    """Return the number of images of a class in a split."""
    return splits[split][label] if split in splits and label in splits[split] else 0


def _of_warnings(facts: Facts) -> set[str]:
    return {
        example["image_hash"]
        for found in (facts["data"]["findings"] if facts["data"] is not None else ())
        if found["fate"] == "warned"
        for example in found["examples"][:IMAGES]
    }


def _entry(found: Finding, context: Context) -> dict[str, Any]:
    """Return the title, count, different details, paths and images of a finding."""
    examples = found["examples"]
    images = [(context.thumbnails.uri(one["image_hash"]), one["path"]) for one in examples]
    return {
        "what": found["title"],
        "count": found["count"],
        "details": list(dict.fromkeys(one["detail"] for one in examples if one["detail"])),
        "remedies": found["remedies"],
        "paths": [one["path"] for one in examples],
        "images": [(uri, path) for uri, path in images if uri][:IMAGES],
    }


DATA = Section("data", "Data", build_data, order=120, numbers=True, hashes=_of_warnings)


#: Number of rows on the page, divided evenly among the reasons; the quarantine's manifest has all.
LIMIT = 200


def shown(rows: Iterable[Row], limit: int = LIMIT) -> list[Row]:
    """Choose at most `limit` files with findings for the page, divided evenly among the reasons."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["reason"], []).append(row)
    # In turn, so that a rare reason is shown beside thousands of files of another one.
    turns = ((turn, reason) for reason, alike in groups.items() for turn in range(len(alike)))
    quota = collections.Counter(reason for _, reason in heapq.nsmallest(limit, turns))
    return [row for reason, alike in groups.items() for row in alike[: quota[reason]]]


def grouped(context: Context, rows: Sequence[Row], fate: str = "") -> list[dict[str, Any]]:
    """Group files with findings by reason for `macros.findings`, the most frequent first.

    Args:
        context: Data of the page.
        rows: Lines of the quarantine's manifest.
        fate: What happened to the files, where that is not the same for all of the page.
    """
    groups = []
    chosen = shown(rows)
    counts = collections.Counter(row["reason"] for row in rows)
    for reason, count in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])):
        here = [row for row in chosen if row["reason"] == reason]
        # Lines of warnings and repairs say nothing about keeping the file.
        advised = {row["override"] for row in here}
        cells = [
            {**context.with_image(row), "other": context.thumbnails.uri(row["kept_copy"])}
            for row in here
        ]
        override = advised.pop() if len(advised) == 1 else ""
        values = {"title": title_of(reason), "count": count, "override": override, "rows": cells}
        groups.append({"fate": fate, "several": len(advised) > 1, **values})
    return groups


def build_rejected(context: Context) -> SectionContent:
    """Group the rejected files, the most frequent reason first."""
    data = context.facts["data"]
    rejected = context.facts["rejected"]
    if data is None and not rejected:
        return context.absent("No file was inspected")
    return {
        "groups": grouped(context, rejected),
        "total": len(rejected),
        "shown": min(len(rejected), LIMIT),
        "seen": None if data is None else data["in"],
        "review": review_command(context.facts),
    }


REJECTED = Section("rejected", "Rejected files", build_rejected, order=50)


def build_near(context: Context) -> SectionContent:
    """Return the groups with their images."""
    found = context.facts["near"]
    if found is None:
        return context.absent("Near-duplicates were not searched for")
    rows = [
        {**group, "members": [context.with_image(one) for one in group["members"]]}
        for group in found["rows"]
    ]
    return {"found": found, "rows": rows}


def _of_groups(facts: PageFacts) -> set[str]:
    groups = facts["near"]["rows"] if facts["near"] is not None else ()
    return {member["image_hash"] for group in groups for member in group["members"]}


NEAR = Section("near", "Near-duplicates", build_near, order=122, numbers=True, hashes=_of_groups)


#: Images on the page; the file for review holds more.
DOUBTFUL = 24


def build_doubtful_labels(context: Context) -> SectionContent:
    """Return the first rows of the ranking, in two groups: clearly doubtful and less clear."""
    found = context.facts["suspects"]
    if found is None:
        return context.absent("Labels were not checked: there are too few images or no features")
    rows = [context.with_image(row) for row in found["rows"][:DOUBTFUL]]
    clearly = len(clear(found["rows"]))
    return {
        "found": found,
        "rows": rows,
        "clearly": clearly,
        "groups": [("", rows[:clearly]), ("less clear", rows[clearly:])],
        "review": review_command(context.facts),
    }


def _of_doubtful_labels(facts: Facts) -> set[str]:
    rows = facts["suspects"]["rows"] if facts["suspects"] is not None else []
    return {row["image_hash"] for row in rows[:DOUBTFUL]}


DOUBTFUL_LABELS = Section(
    "doubtful_labels",
    "Doubtful labels",
    build_doubtful_labels,
    order=40,
    hashes=_of_doubtful_labels,
)


def build_unlike_images(context: Context) -> SectionContent:
    """Return the new images that are unlike the old ones of their class, class by class."""
    gate = context.facts["gate"]
    found = gate["unlike"] if gate is not None else []
    if not found:
        return context.absent("No new image is surely unlike the old ones of its class")
    rows = ([context.with_image(row) for row in one["images"][:DOUBTFUL]] for one in found)
    return {"groups": list(zip(found, rows, strict=True))}


def _of_unlike_images(facts: Facts) -> set[str]:
    found = facts["gate"]["unlike"] if facts["gate"] is not None else []
    return {image["image_hash"] for one in found for image in one["images"][:DOUBTFUL]}


UNLIKE_IMAGES = Section(
    "unlike_images", "Unlike their class", build_unlike_images, order=38, hashes=_of_unlike_images
)
