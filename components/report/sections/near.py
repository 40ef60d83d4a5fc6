"""Groups of near-duplicates, shown side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from imgpipe.components.report.section import Absent, Context, Section

#: Number of groups on the page, and of images of each; the quarantine lists all.
GROUPS, MEMBERS = 24, 4


def condensed(lines: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Condense the groups that the quarantine lists to the facts of this section.

    Groups with images in different splits come first, then those with different labels.
    """
    groups = sorted(lines, key=_urgency)
    return {
        "groups": len(groups),
        "pictures": sum(len(group["members"]) for group in groups),
        "radius": groups[0]["radius"] if groups else None,
        "limit": groups[0].get("limit") if groups else None,
        "rows": [
            {"size": len(group["members"]), "members": _told(group["members"])[:MEMBERS]}
            for group in groups[:GROUPS]
        ],
    }


def _told(members: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Put members with findings first; their details name the similar image."""
    return sorted(members, key=lambda member: (member["stays"], not member["reason"]))


def _urgency(group: Mapping[str, Any]) -> int:
    reasons = {member["reason"] for member in group["members"]}
    if any("across_splits" in reason for reason in reasons):
        return 0
    return 1 if any("label_conflict" in reason for reason in reasons) else 2


def build(context: Context) -> Mapping[str, Any] | Absent:
    """Return the groups with their images."""
    found = context.part("near")
    if not found:
        return context.absent("Near-duplicates were not searched for")
    rows = [
        {
            **group,
            "members": [
                {**member, "image": context.thumbnails.uri(member.get("image_hash"))}
                for member in group.get("members") or []
            ],
        }
        for group in found.get("rows") or []
    ]
    return {"found": found, "rows": rows}


SECTION = Section("near", "Near-duplicates", build, order=120)
