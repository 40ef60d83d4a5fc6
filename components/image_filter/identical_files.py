"""Byte-identical copies: within a split, across splits, across labels.

Not a check of one record: it judges a group that shares a content hash. Of copies in several
splits the one for evaluation stays, so that nothing trained on is measured on. Of copies under
several labels none stays: nobody knows which label is right.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from imgpipe.models import feature_names as names

DUPLICATE = "duplicate"
ACROSS_SPLITS = "duplicate_across_splits"
LABEL_CONFLICT = "label_conflict"

#: What to do when a rejected copy is wanted after all, by reason.
OVERRIDES = {
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


@dataclass(frozen=True)
class Drop:
    """A copy that goes, and the one that stays for it ("" when none does)."""

    path: str
    reason: str
    detail: str
    kept_copy: str


def resolve(copies: Iterable[Copy]) -> list[Drop]:
    """What goes of one group, in path order; the same whatever the order of `copies`."""
    group = sorted(copies)
    if len(group) < 2:
        return []
    labels = sorted({copy.label for copy in group})
    if len(labels) > 1:
        return [_conflict(copy, group) for copy in group]
    kept = min(group, key=lambda copy: (_PRECEDENCE[copy.split], copy.path))
    return [_drop(copy, kept) for copy in group if copy != kept]


def _conflict(copy: Copy, group: list[Copy]) -> Drop:
    others = [f"{c.path} ({c.label})" for c in group if c != copy]
    shown = ", ".join(others[:_SHOWN]) + (", …" if len(others) > _SHOWN else "")
    detail = f"labelled {copy.label}, but the same bytes are {shown}"
    return Drop(copy.path, LABEL_CONFLICT, detail, "")


def _drop(copy: Copy, kept: Copy) -> Drop:
    if copy.split == kept.split:
        return Drop(copy.path, DUPLICATE, f"same bytes as {kept.path}", kept.path)
    detail = f"same bytes as {kept.path}, which is in {kept.split}; this one is in {copy.split}"
    return Drop(copy.path, ACROSS_SPLITS, detail, kept.path)
