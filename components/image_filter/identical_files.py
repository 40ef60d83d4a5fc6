"""Byte-identical files: in one split, in several splits, or with several labels.

Files with the same content hash form a group. If the copies are in several splits, the one used for
evaluation is kept, so that no model is evaluated on an image that it was trained on. If the copies
have different labels, none is kept, because the correct label is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from imgpipe.components.image_filter.check import Finding
from imgpipe.models import feature_names as names

DUPLICATE = "duplicate"
ACROSS_SPLITS = "duplicate_across_splits"
LABEL_CONFLICT = "label_conflict"

#: What to do about a rejected copy, by reason.
REMEDIES = {
    DUPLICATE: "nothing is lost, because one copy is kept; delete the copy that you do not need",
    ACROSS_SPLITS: "nothing is lost, because one copy is kept; delete that one to use this one",
    LABEL_CONFLICT: "keep the copy in the correct class, delete the others and run again",
}
#: Of copies in several splits the one in the split with the lowest number is kept.
_PRECEDENCE = {names.TEST: 0, names.VALIDATION: 1, names.TRAIN: 2}
_SHOWN = 10  # paths listed in a detail


@dataclass(frozen=True, order=True)
class Copy:
    """A file of a group with the same content."""

    path: str
    split: str
    label: str
    group: str = ""  # the group that the source gives; "" when it gives none


def resolve(copies: Iterable[Copy]) -> list[Finding]:
    """Decide which copies of one content are rejected.

    Args:
        copies: The images with the same content, in any order.

    Returns:
        One finding for each rejected copy, in the order of their paths.
    """
    group = sorted(copies)
    if len(group) < 2:
        return []
    if len({copy.label for copy in group}) > 1:
        return [_conflict(copy, group) for copy in group]
    kept = min(group, key=lambda copy: (_PRECEDENCE[copy.split], copy.path))
    return [_drop(copy, kept) for copy in group if copy != kept]


def _conflict(copy: Copy, group: list[Copy]) -> Finding:
    others = [f"{c.path} ({c.label})" for c in group if c != copy]
    shown = ", ".join(others[:_SHOWN]) + (", …" if len(others) > _SHOWN else "")
    detail = f"labelled {copy.label}, but identical to {shown}"
    return _finding(copy, LABEL_CONFLICT, detail)


def _drop(copy: Copy, kept: Copy) -> Finding:
    if copy.split == kept.split:
        return _finding(copy, DUPLICATE, f"same bytes as {kept.path}", kept.path)
    detail = f"same bytes as {kept.path}, which is in {kept.split}; this one is in {copy.split}"
    return _finding(copy, ACROSS_SPLITS, detail, kept.path)


def _finding(copy: Copy, reason: str, detail: str, kept_copy: str = "") -> Finding:
    return Finding(reason, detail, remedy=REMEDIES[reason], path=copy.path, kept_copy=kept_copy)
