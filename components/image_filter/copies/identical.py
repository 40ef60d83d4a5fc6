"""Identical files: the decision which of them are rejected.

If the copies are in several splits, the one used for evaluation is kept, so that no model is
evaluated on an image that it was trained on. If they have different labels, none is kept, because
the correct label is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence

from imgpipe.components.common.splits import HELD_OUT_FIRST
from imgpipe.components.image_filter.copies.copy import Copy
from imgpipe.components.image_filter.judge.check import ImageFinding

DUPLICATE = "duplicate"
DUPLICATE_ACROSS_SPLITS = "duplicate_across_splits"
DUPLICATE_LABEL_CONFLICT = "label_conflict"
#: What to do about a rejected copy, by reason.
_REMEDIES = {
    DUPLICATE: "nothing is lost, because one copy is kept; delete the copy that you do not need",
    DUPLICATE_ACROSS_SPLITS: (
        "nothing is lost, because one copy is kept; delete that one to use this one"
    ),
    DUPLICATE_LABEL_CONFLICT: "keep the copy in the correct class, delete the others and run again",
}
_SHOWN = 10  # paths listed in a detail


def rejections(copies: Sequence[Copy]) -> list[ImageFinding]:
    """Decide which copies of one content are rejected.

    Args:
        copies: The images with the same content, in any order.

    Returns:
        One finding for each rejected copy, in the order of their paths.
    """
    by_path = sorted(copies, key=lambda copy: copy.path)
    if len({copy.label for copy in by_path}) > 1:
        return [_conflict(copy, by_path) for copy in by_path]
    kept = min(by_path, key=lambda copy: (HELD_OUT_FIRST.index(copy.split), copy.path))
    return [_drop(copy, kept) for copy in by_path if copy != kept]


def _conflict(copy: Copy, copies: Sequence[Copy]) -> ImageFinding:
    others = [f"{identical.path} ({identical.label})" for identical in copies if identical != copy]
    shown = ", ".join(others[:_SHOWN]) + (", …" if len(others) > _SHOWN else "")
    detail = f"labelled {copy.label}, but identical to {shown}"
    return ImageFinding(
        DUPLICATE_LABEL_CONFLICT, detail, remedy=_REMEDIES[DUPLICATE_LABEL_CONFLICT], path=copy.path
    )


def _drop(copy: Copy, kept: Copy) -> ImageFinding:
    reason = DUPLICATE
    detail = f"same bytes as {kept.path}"
    if copy.split != kept.split:
        reason = DUPLICATE_ACROSS_SPLITS
        detail += f", which is in {kept.split}; this one is in {copy.split}"
    remedy = _REMEDIES[reason]
    return ImageFinding(reason, detail, remedy=remedy, path=copy.path, kept_copy=kept.path)
