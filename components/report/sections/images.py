"""The images: counts, rejected files, near-duplicates, doubtful labels and a map of them all."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from imgpipe.components.image_filter.near_groups import set_aside
from imgpipe.components.report import plots
from imgpipe.components.report.doubtful_labels import CLEAR, REVIEW_FILE, clear
from imgpipe.components.report.section import Content, Context, Section
from imgpipe.components.report.text import aside, capped, moves, overridden
from imgpipe.models import feature_names as names

_CLASSES = 300  # rows of the table
#: Number of images shown for each kind of warning, the worst first.
IMAGES = 6


def build_data(context: Context) -> Content:
    """Collect counts, images by split and class, warnings, notes and DataGate's decision."""
    data, gate = context.part("data"), context.part("data_gate")
    if not data:
        return context.absent("No file was inspected")
    splits = data.get("by_split") or {}
    shown = [*names.SPLITS, *(split for split in splits if split not in names.SPLITS)]
    seen = {name: None for split in splits.values() for name in split}
    classes = context.vocabulary + [name for name in seen if name not in context.vocabulary]
    rows = [(name, [(splits.get(split) or {}).get(name, 0) for split in shown]) for name in classes]
    totals = [sum(column) for column in zip(*(row[1] for row in rows), strict=True)]
    capped_rows, rows_note = capped(rows, _CLASSES)
    return {
        "data": data,
        "adds_up": data.get("in") == (data.get("kept") or 0) + (data.get("rejected") or 0),
        "splits": shown,
        "rows": capped_rows,
        "rows_note": rows_note,
        "totals": totals or [0] * len(shown),
        "warnings": [_finding(warning, context) for warning in data.get("warnings") or []],
        "notes": [_finding(note, context) for note in data.get("notes") or []],
        "repairs": _counts(data.get("repaired_by")),
        "overrides": _counts((data.get("overrides") or {}).get("applied")),
        "overridden": overridden(data),
        "moved": moves(data.get("moved") or {}),
        "unknown": (data.get("overrides") or {}).get("unknown") or [],
        "gate": gate,
        "reasons": context.data_reasons,
        "refused": context.state.status == "refused",
    }


def _counts(by_kind: Any) -> str:
    """Return text such as "2 transcoded, 1 orientation" for the numbers by kind; "" for none."""
    kinds = by_kind.items() if isinstance(by_kind, Mapping) else ()
    return ", ".join(f"{count} {str(kind).replace('_', ' ')}" for kind, count in kinds)


def shown_hashes(data: Mapping[str, Any]) -> set[str]:
    """Return the content hashes of the images that are shown beside the warnings."""
    warnings = [found for found in data.get("warnings") or () if isinstance(found, Mapping)]
    return {h for found in warnings for h in (found.get("image_hashes") or ())[:IMAGES]}


def _finding(found: Any, context: Context) -> dict[str, Any]:
    """Return the kind, count, details, images and paths of a warning or a note."""
    if not isinstance(found, Mapping):
        return {"what": str(found), "count": 1, "details": [], "paths": [], "images": []}
    paths = [str(path) for path in found.get("paths") or [found.get("path")] if path]
    details = found.get("details") or found.get("detail") or []
    return {
        "what": str(found.get("reason") or found.get("kind") or ""),
        "count": int(found.get("count") or 1),
        "details": [details] if isinstance(details, str) else [str(detail) for detail in details],
        "paths": paths,
        "images": [
            (uri, path)
            for image_hash, path in zip(found.get("image_hashes") or (), paths, strict=False)
            if (uri := context.thumbnails.uri(image_hash))
        ][:IMAGES],
    }


DATA = Section("data", "Data", build_data, order=100)


#: Number of rows on the page, divided evenly among the reasons; the quarantine's manifest has all.
LIMIT = 200
_OPEN = 12  # total number of rejected files up to which all groups are unfolded


def shown(rejects: Iterable[Mapping[str, Any]], limit: int = LIMIT) -> list[Mapping[str, Any]]:
    """Choose at most `limit` rejected files for the page, divided evenly among the reasons."""
    groups = _by_reason(rejects)
    quota = dict.fromkeys(groups, 0)
    left = min(limit, sum(map(len, groups.values())))
    while left:  # in turn, so that a rare reason is shown beside thousands of files of another
        for reason, rows in groups.items():
            if left and quota[reason] < len(rows):
                quota[reason] += 1
                left -= 1
    return [row for reason, rows in groups.items() for row in rows[: quota[reason]]]


def build_rejects(context: Context) -> Content:
    """Group the rejected files, the most frequent reason first."""
    data = context.part("data")
    rejects: Sequence[Mapping[str, Any]] = context.facts.get("rejects") or []
    if not data and not rejects:
        return context.absent("No file was inspected")
    everything, rows = _by_reason(rejects), _by_reason(shown(rejects))
    counts = {reason: len(found) for reason, found in everything.items()}
    for reason, count in (data.get("by_reason") or {}).items():
        counts[str(reason)] = max(int(count or 0), counts.get(str(reason), 0))
    groups: list[dict[str, Any]] = [
        {
            "reason": reason,
            "count": count,
            "override": common_override(rows.get(reason, [])),
            "rows": [_reject(context, row) for row in rows.get(reason, [])],
        }
        for reason, count in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
        if count
    ]
    total = sum(group["count"] for group in groups)
    return {
        "groups": groups,
        "total": total,
        "shown": sum(len(group["rows"]) for group in groups),
        "unfold": total <= _OPEN,
        "seen": data.get("in"),
    }


def _by_reason(rejects: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for reject in rejects:
        groups.setdefault(str(reject.get("reason") or "no reason given"), []).append(reject)
    return groups


def common_override(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what to do to keep the files if it is the same for all rows; otherwise ""."""
    found = {str(row.get("override") or "") for row in rows}
    return found.pop() if len(found) == 1 else ""


def _reject(context: Context, row: Mapping[str, Any]) -> dict[str, str]:
    texts = {
        key: str(row.get(key) or "") for key in ("path", "label", "split", "detail", "override")
    }
    return {**texts, "image": context.thumbnails.uri(row.get("image_hash"))}


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
        {**group, "members": [context.with_image(one) for one in group.get("members") or []]}
        for group in found.get("rows") or []
    ]
    return {"found": found, "rows": rows, "aside": aside(found.get("set_aside") or {})}


NEAR = Section("near", "Near-duplicates", build_near, order=120)


#: Images on the page; the file for review holds more.
DOUBTFUL = 48


def build_doubtful_labels(context: Context) -> Content:
    """Return the first rows of the ranking, in two groups: clearly doubtful and less clear."""
    found = context.part("suspects")
    if not found:
        return context.absent("Labels were not checked: there are too few images or no features")
    rows = [context.with_image(row) for row in (found.get("rows") or [])[:DOUBTFUL]]
    clearly = clear(rows)
    return {
        "found": found,
        "rows": rows,
        "groups": [("", clearly), ("less clear", rows[len(clearly) :])],
        "margin": CLEAR,
        "file": REVIEW_FILE,
    }


DOUBTFUL_LABELS = Section("doubtful_labels", "Doubtful labels", build_doubtful_labels, order=95)


#: Signs of the classes in the legend, in the order of `plots.MARKERS`.
SIGNS = "●■▲◆▼✚★⬟"


def build_embedding(context: Context) -> Content:
    """Draw the map; of many classes, the largest ones are coloured."""
    found = context.part("embedding")
    points = found.get("points") or []
    if not points:
        return context.absent("No features are stored that could be drawn")
    counts = collections.Counter(point[2] for point in points)
    largest = sorted(counts, key=lambda label: (-counts[label], label))[: len(SIGNS)]
    coloured = sorted(largest)
    classes = context.vocabulary
    held_out = [names.SPLITS.index(split) for split in (names.VALIDATION, names.TEST)]
    return {
        "plot": plots.embedding(points, coloured, held_out),
        "found": found,
        "shown": len(points),
        "judged": bool(context.part("metrics")),
        "wrong": sum(point[4] for point in points),
        "legend": [
            (sign, classes[label] if label < len(classes) else str(label))
            for sign, label in zip(SIGNS, coloured, strict=False)
        ],
        "others": len(counts) - len(coloured),
    }


EMBEDDING = Section("embedding", "Map of the images", build_embedding, order=75)
