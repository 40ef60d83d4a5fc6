"""Groups of near-duplicates, shown side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from imgpipe.components.image_filter.near_groups import set_aside
from imgpipe.components.report.section import Content, Context, Section
from imgpipe.components.report.text import aside

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


def build(context: Context) -> Content:
    """Return the groups with their images."""
    found = context.part("near")
    if not found:
        return context.absent("Near-duplicates were not searched for")
    rows = [
        {**group, "members": [context.with_image(one) for one in group.get("members") or []]}
        for group in found.get("rows") or []
    ]
    return {"found": found, "rows": rows, "aside": aside(found.get("set_aside") or {})}


SECTION = Section("near", "Near-duplicates", build, order=120)
