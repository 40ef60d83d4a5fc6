"""The images: counts, rejected files, near-duplicates and doubtful labels."""

from __future__ import annotations

import collections
import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from imgpipe.components.common.formatting import capped
from imgpipe.components.image_filter.findings import not_used, title_of
from imgpipe.components.image_filter.judge.check import Row
from imgpipe.components.report.commands import can_be_reviewed, review_command
from imgpipe.components.report.page_facts import PageFacts
from imgpipe.components.report.section import Context, Section, SectionContent
from imgpipe.components.run_record.facts import Facts
from imgpipe.models.finding import Finding
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
    held_classes = (name for split in splits.values() for name in split)
    classes = list(dict.fromkeys([*context.vocabulary, *held_classes]))
    rows = [(name, [_count(splits, split, name) for split in shown]) for name in classes]
    counts_by_class = [counts for _, counts in rows]
    totals = [sum(counts) for counts in zip(*counts_by_class, strict=True)]
    capped_rows, rows_note = capped(rows, lambda row: sum(row[1]))
    findings = data["findings"]
    repairs = (finding for finding in findings if finding["fate"] == "repaired")
    return {
        "data": data,
        "adds_up": data["in"] == data["kept"] + data["rejected"],
        "splits": shown,
        "rows": capped_rows,
        "rows_note": rows_note,
        "totals": totals or [0] * len(shown),
        "warnings": [
            _entry(finding, context) for finding in findings if finding["fate"] == "warned"
        ],
        "notes": [
            _entry(finding, context)
            for finding in findings
            if finding["fate"] in ("not_used", "noted") and finding["examples"]
        ],
        "repairs": ", ".join(f"{repair['count']:,} {repair['title']}" for repair in repairs),
        "not_used": not_used(findings),
        "findings": [
            finding for finding in findings if finding["fate"] == "noted" and not finding["decides"]
        ],
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
        for finding in (facts["data"]["findings"] if facts["data"] is not None else ())
        if finding["fate"] == "warned"
        for example in finding["examples"][:IMAGES]
    }


def _entry(finding: Finding, context: Context) -> dict[str, Any]:
    """Return the title, count, different details, paths and images of a finding."""
    examples = finding["examples"]
    images = [
        (context.thumbnails.uri(example["image_hash"]), example["path"]) for example in examples
    ]
    return {
        "what": finding["title"],
        "count": finding["count"],
        "details": list(
            dict.fromkeys(example["detail"] for example in examples if example["detail"])
        ),
        "remedies": finding["remedies"],
        "paths": [example["path"] for example in examples],
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
        of_reason = [row for row in chosen if row["reason"] == reason]
        # Lines of warnings and repairs say nothing about keeping the file.
        advised = {row["override"] for row in of_reason}
        cells = [
            {**context.with_image(row), "other": context.thumbnails.uri(row["kept_copy"])}
            for row in of_reason
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
        "review": review_command(context.facts) if any(map(can_be_reviewed, rejected)) else "",
    }


REJECTED = Section("rejected", "Rejected files", build_rejected, order=50)


def build_near(context: Context) -> SectionContent:
    """Return the groups with their images."""
    near = context.facts["near"]
    if near is None:
        return context.absent("Near-duplicates were not searched for")
    rows = [
        {**group, "members": [context.with_image(member) for member in group["members"]]}
        for group in near["rows"]
    ]
    return {"near": near, "rows": rows, "listed_in": "The table of images in the quarantine"}


def _of_groups(facts: PageFacts) -> set[str]:
    groups = facts["near"]["rows"] if facts["near"] is not None else ()
    return {member["image_hash"] for group in groups for member in group["members"]}


NEAR = Section("near", "Near-duplicates", build_near, order=122, numbers=True, hashes=_of_groups)


#: Images on the page; the file for review holds more.
DOUBTFUL = 24


def build_doubtful_labels(context: Context) -> SectionContent:
    """Return the first rows of the ranking: doubtful labels, and then mistakes of the models."""
    suspects = context.facts["suspects"]
    if suspects is None:
        return context.absent("Labels were not checked: there are too few images or no features")
    rows = [context.with_image(row) for row in suspects["rows"][:DOUBTFUL]]
    doubtful = suspects["doubtful"]
    return {
        "suspects": suspects,
        "rows": rows,
        "groups": [("", rows[:doubtful]), ("mistake", rows[doubtful:])],
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
    unlike = gate["unlike"] if gate is not None else []
    if not unlike:
        return context.absent("No new image is surely unlike the old ones of its class")
    groups = []
    for of_class in unlike:
        rows = [context.with_image(row) for row in of_class["images"][:DOUBTFUL]]
        groups.append((of_class, rows))
    return {"groups": groups}


def _of_unlike_images(facts: Facts) -> set[str]:
    unlike = facts["gate"]["unlike"] if facts["gate"] is not None else []
    return {image["image_hash"] for of_class in unlike for image in of_class["images"][:DOUBTFUL]}


UNLIKE_IMAGES = Section(
    "unlike_images", "Unlike their class", build_unlike_images, order=38, hashes=_of_unlike_images
)
