"""The images: counts, rejected files, near-duplicates and doubtful labels."""

from __future__ import annotations

import collections
import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from imgpipe.components.image_filter.near_groups import set_aside
from imgpipe.components.report import families
from imgpipe.components.report.doubtful_labels import CLEAR, clear
from imgpipe.components.report.section import Content, Context, Section
from imgpipe.components.report.text import aside, capped, converted, moves, overridden
from imgpipe.models import feature_names as names

_CLASSES = 300  # rows of the table
#: Number of images shown for each kind of warning, the worst first.
IMAGES = 6


def build_data(context: Context) -> Content:
    """Collect counts, images by split and class, warnings, notes and DataGate's decision."""
    data = context.part("data")
    if not data:
        return context.absent("No file was inspected")
    splits = data["by_split"]
    shown = [*names.SPLITS, *(split for split in splits if split not in names.SPLITS)]
    found = (name for split in splits.values() for name in split)
    classes = list(dict.fromkeys([*context.vocabulary, *found]))
    rows = [(name, [splits.get(split, {}).get(name, 0) for split in shown]) for name in classes]
    totals = [sum(column) for column in zip(*(row[1] for row in rows), strict=True)]
    capped_rows, rows_note = capped(rows, _CLASSES)
    overrides = data["overrides"]
    return {
        "data": data,
        "adds_up": data["in"] == data["kept"] + data["rejected"],
        "splits": shown,
        "rows": capped_rows,
        "rows_note": rows_note,
        "totals": totals or [0] * len(shown),
        "warnings": [_finding(warning, context) for warning in data["warnings"]],
        "notes": [_finding(note, context) for note in data["notes"]],
        "repairs": _counts(data["repaired_by"]),
        "overridden": overridden(data),
        "moved": [*moves(data["moved"]), *converted(data)],
        "families": families.sentences(data["families"]) if "families" in data else [],
        "unknown": overrides["unknown"],
        "gate": context.part("data_gate"),
        "reasons": context.data_reasons,
        "refused": context.state.status == "refused",
    }


def _counts(by_kind: Mapping[str, int]) -> str:
    """Return text such as "2 transcoded, 1 orientation" for the numbers by kind; "" for none."""
    return ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in by_kind.items())


def shown_hashes(data: Mapping[str, Any]) -> set[str]:
    """Return the content hashes of the images that are shown beside the warnings."""
    return {h for found in data.get("warnings", ()) for h in found["image_hashes"][:IMAGES]}


def _finding(found: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Return the kind, count, details, images and paths of a warning or a note."""
    images = [
        (context.thumbnails.uri(image_hash), path)
        for image_hash, path in zip(found.get("image_hashes", ()), found["paths"], strict=False)
    ]
    return {
        "what": found.get("reason") or found["kind"],
        "count": found["count"],
        "details": list(found.get("details") or filter(None, [found.get("detail")])),
        "paths": found["paths"],
        "images": [(uri, path) for uri, path in images if uri][:IMAGES],
    }


DATA = Section("data", "Data", build_data, order=100)


#: Number of rows on the page, divided evenly among the reasons; the quarantine's manifest has all.
LIMIT = 200


def shown(rejects: Iterable[Mapping[str, Any]], limit: int = LIMIT) -> list[Mapping[str, Any]]:
    """Choose at most `limit` files with findings for the page, divided evenly among the reasons."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for reject in rejects:
        groups.setdefault(reject["reason"], []).append(reject)
    # In turn, so that a rare reason is shown beside thousands of files of another one.
    turns = ((turn, reason) for reason, rows in groups.items() for turn in range(len(rows)))
    quota = collections.Counter(reason for _, reason in heapq.nsmallest(limit, turns))
    return [row for reason, rows in groups.items() for row in rows[: quota[reason]]]


def grouped(
    context: Context, rows: Sequence[Mapping[str, Any]], fate: str = ""
) -> list[dict[str, Any]]:
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
        advised = {row.get("override", "") for row in here}
        cells = [
            {**context.with_image(row), "other": context.thumbnails.uri(row.get("kept_copy"))}
            for row in here
        ]
        override = advised.pop() if len(advised) == 1 else ""
        values = {"reason": reason, "count": count, "override": override, "rows": cells}
        groups.append({"fate": fate, "several": len(advised) > 1, **values})
    return groups


def build_rejects(context: Context) -> Content:
    """Group the rejected files, the most frequent reason first."""
    data = context.part("data")
    rejects: Sequence[Mapping[str, Any]] = context.facts.get("rejects") or []
    if not data and not rejects:
        return context.absent("No file was inspected")
    return {
        "groups": grouped(context, rejects),
        "total": len(rejects),
        "shown": min(len(rejects), LIMIT),
        "seen": data.get("in"),
    }


REJECTS = Section("rejects", "Rejected files", build_rejects, order=110)


#: Number of groups on the page, and of images of each; the quarantine lists all.
GROUPS, MEMBERS = 24, 4


def condensed(lines: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Condense the groups that the quarantine lists to the facts of this section.

    Groups with images in different splits come first, then those with different labels.
    """
    groups = sorted(lines, key=_urgency)
    return {
        "set_aside": set_aside(groups),
        "groups": len(groups),
        "pictures": sum(len(group["members"]) for group in groups),
        "radius": groups[0]["radius"] if groups else None,
        "rows": [
            {"size": len(group["members"]), "members": _ordered(group["members"])[:MEMBERS]}
            for group in groups[:GROUPS]
        ],
    }


def _ordered(members: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Put members with findings first, each followed by the similar image that its detail names."""
    ordered = sorted(members, key=lambda member: (member["stays"], not member["reason"]))
    by_path = {member["path"]: member for member in ordered}
    shown: dict[str, Mapping[str, Any]] = {}
    for member in ordered:
        shown.setdefault(member["path"], member)
        similar = by_path.get(member.get("similar_to") or "")
        if similar is not None:
            shown.setdefault(similar["path"], similar)
    return list(shown.values())


def _urgency(group: Mapping[str, Any]) -> int:
    reasons = {member["reason"] for member in group["members"]}
    if any("across_splits" in reason for reason in reasons):
        return 0
    return 1 if any("label_conflict" in reason for reason in reasons) else 2


def build_near(context: Context) -> Content:
    """Return the groups with their images."""
    found = context.part("near")
    if not found:
        return context.absent("Near-duplicates were not searched for")
    rows = [
        {**group, "members": [context.with_image(one) for one in group["members"]]}
        for group in found["rows"]
    ]
    return {"found": found, "rows": rows, "aside": aside(found["set_aside"])}


NEAR = Section("near", "Near-duplicates", build_near, order=120)


#: Images on the page; the file for review holds more.
DOUBTFUL = 48


def build_doubtful_labels(context: Context) -> Content:
    """Return the first rows of the ranking, in two groups: clearly doubtful and less clear."""
    found = context.part("suspects")
    if not found:
        return context.absent("Labels were not checked: there are too few images or no features")
    listed = found["rows"][:DOUBTFUL]
    count = len(clear(listed))  # the first ones, since the ranking is by margin
    rows = [context.with_image(row) for row in listed]
    return {
        "found": found,
        "rows": rows,
        "groups": [("", rows[:count]), ("less clear", rows[count:])],
        "margin": CLEAR,
    }


DOUBTFUL_LABELS = Section("doubtful_labels", "Doubtful labels", build_doubtful_labels, order=95)


def build_unlike_images(context: Context) -> Content:
    """Return the new images that are unlike the old ones of their class, class by class."""
    found = context.part("gate").get("unlike")
    if not found:
        return context.absent("No new image is surely unlike the old ones of its class")
    rows = ([context.with_image(row) for row in one["images"][:DOUBTFUL]] for one in found)
    return {"groups": list(zip(found, rows, strict=True))}


UNLIKE_IMAGES = Section("unlike_images", "Unlike their class", build_unlike_images, order=94)
