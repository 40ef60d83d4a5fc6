"""Rejected files by reason, with their images, the details and how to keep them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from imgpipe.components.report.section import Content, Context, Section

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


def build(context: Context) -> Content:
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
            "rows": [_row(context, row) for row in rows.get(reason, [])],
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


def _row(context: Context, row: Mapping[str, Any]) -> dict[str, str]:
    texts = {
        key: str(row.get(key) or "") for key in ("path", "label", "split", "detail", "override")
    }
    return {**texts, "image": context.thumbnails.uri(row.get("image_hash"))}


SECTION = Section("rejects", "Rejected files", build, order=110)
