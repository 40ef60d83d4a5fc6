"""Byte-identical files: in one split, in several splits, or with several labels.

They are compared in groups that share a content hash. Of copies in several splits the one used for
evaluation is kept, so that no model is evaluated on an image that it was trained on. Of copies with
several labels none is kept, because it is unknown which label is right.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from imgpipe.components.image_filter.check import Finding
from imgpipe.models import feature_names as names

DUPLICATE = "duplicate"
ACROSS_SPLITS = "duplicate_across_splits"
LABEL_CONFLICT = "label_conflict"

#: What to do when a rejected copy is wanted after all, by reason.
REMEDIES = {
    DUPLICATE: "nothing is lost: its copy is in; delete the copy that is not wanted",
    ACROSS_SPLITS: "nothing is lost: its copy is in; delete the copy in the other split to move it",
    LABEL_CONFLICT: "keep the copy under the right class, delete the others, run again",
}
_PRECEDENCE = {names.TEST: 0, names.VALIDATION: 1, names.TRAIN: 2}
_SHOWN = 10  # paths listed in a detail


@dataclass(frozen=True, order=True)
class Copy:
    """One file of a group with the same content."""

    path: str
    split: str
    label: str
    group: str = ""  # what the source says belongs together; "" where it says nothing


def resolve(copies: Iterable[Copy]) -> list[Finding]:
    """The copies of one group that are rejected, in path order.

    Args:
        copies: The images with the same content, in any order.
    """
    group = sorted(copies)
    if len(group) < 2:
        return []
    labels = sorted({copy.label for copy in group})
    if len(labels) > 1:
        return [_conflict(copy, group) for copy in group]
    kept = min(group, key=lambda copy: (_PRECEDENCE[copy.split], copy.path))
    return [_drop(copy, kept) for copy in group if copy != kept]


def _conflict(copy: Copy, group: list[Copy]) -> Finding:
    others = [f"{c.path} ({c.label})" for c in group if c != copy]
    shown = ", ".join(others[:_SHOWN]) + (", …" if len(others) > _SHOWN else "")
    detail = f"labelled {copy.label}, but the same bytes are {shown}"
    return _finding(copy, LABEL_CONFLICT, detail)


def _drop(copy: Copy, kept: Copy) -> Finding:
    if copy.split == kept.split:
        return _finding(copy, DUPLICATE, f"same bytes as {kept.path}", kept.path)
    detail = f"same bytes as {kept.path}, which is in {kept.split}; this one is in {copy.split}"
    return _finding(copy, ACROSS_SPLITS, detail, kept.path)


def _finding(copy: Copy, reason: str, detail: str, kept_copy: str = "") -> Finding:
    return Finding(reason, detail, remedy=REMEDIES[reason], path=copy.path, kept_copy=kept_copy)
