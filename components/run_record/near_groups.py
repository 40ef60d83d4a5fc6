"""The near-duplicates of a run: how many there are, and the groups that the page shows."""

from __future__ import annotations

from collections.abc import Iterable

from typing_extensions import TypedDict

from imgpipe.components.image_filter.image_table import NearGroup
from imgpipe.components.image_filter.judge.check import Row

#: Number of groups on the page, and of images of each; the quarantine lists all.
GROUPS = 24
MEMBERS = 4


class ShownNearDuplicates(TypedDict):
    """The groups of near-duplicates, condensed to what the page shows."""

    groups: int
    images: int  # in all groups
    radius: int  # largest number of differing bits between near-duplicates
    rows: list[NearGroup]


def condensed(groups: Iterable[NearGroup], radius: int) -> ShownNearDuplicates:
    """Condense the groups that the quarantine lists.

    Groups with images in different splits come first, then those with different labels.
    """
    ordered = sorted(groups, key=_urgency)
    return {
        "groups": len(ordered),
        "images": sum(group["size"] for group in ordered),
        "radius": radius,
        "rows": [
            {"size": group["size"], "members": _ordered(group["members"])[:MEMBERS]}
            for group in ordered[:GROUPS]
        ],
    }


def _ordered(members: Iterable[Row]) -> list[Row]:
    """Put members with findings first, each followed by the similar image that its detail names."""
    ordered = sorted(members, key=lambda row: (row["severity"] != "reject", not row["reason"]))
    by_path = {member["path"]: member for member in ordered}
    shown: dict[str, Row] = {}
    for member in ordered:
        shown.setdefault(member["path"], member)
        similar = by_path.get(member["kept_copy"])
        if similar is not None:
            shown.setdefault(similar["path"], similar)
    return list(shown.values())


def _urgency(group: NearGroup) -> int:
    reasons = {member["reason"] for member in group["members"]}
    if any("across_splits" in reason for reason in reasons):
        return 0
    return 1 if any("label_conflict" in reason for reason in reasons) else 2
