"""Near-duplicates: their settings and remedies.

This check does not look at single images: `imgpipe.components.image_filter.near_duplicates`
compares all images of the set with each other.
"""

from __future__ import annotations

from collections.abc import Mapping

from imgpipe.components.image_filter.check import Check, Choice, Finding, Settings, Severity
from imgpipe.components.image_record import ImageRecord

NEAR = "near_duplicate"
ACROSS_SPLITS = "near_duplicate_across_splits"
LABEL_CONFLICT = "near_duplicate_label_conflict"
#: Default radius in bits. Copies that were saved again, resized, brightened or cropped by 5 % are
#: within it. No two different images of 1,240 and of 4,160 flowers are (the nearest: 55 and 41
#: bits), but 21,683 pairs of 1,651 hands in front of a white wall; the grey images refuse these.
RADIUS = 40

#: What to do to keep a rejected copy, by reason.
REMEDIES = {
    NEAR: 'set judge.severity.near_duplicate to "warn", or delete the copy that you do not need',
    ACROSS_SPLITS: "put both copies into one split (data.group_pattern keeps copies together), or "
    'set judge.severity.near_duplicate_across_splits to "warn" and evaluate on training images',
    LABEL_CONFLICT: "give both copies the right label, or delete the wrong one, and run again",
}
_MAY_BE: tuple[Severity, ...] = ("reject", "warn", "ignore")
_CHOICES = {
    ACROSS_SPLITS: Choice("reject", _MAY_BE, "Nearly the same image in another split"),
    LABEL_CONFLICT: Choice("warn", _MAY_BE, "Nearly the same image with another label"),
    NEAR: Choice("warn", _MAY_BE, "Nearly the same image in the same split"),
}
SEVERITIES: Mapping[str, Severity] = {name: choice.usual for name, choice in _CHOICES.items()}


def judge(record: ImageRecord, settings: Settings) -> Finding | None:
    """Return None: a single image is never a near-duplicate."""
    return None


def radius(settings: Settings) -> int:
    """Return the largest distance of near-duplicates in bits; 0 turns the search off."""
    return int(CHECK.threshold_in(settings))


CHECK = Check(
    NEAR,
    210,
    "set",
    judge,
    REMEDIES[NEAR],
    severity="warn",
    threshold=RADIUS,
    about="bits of 256 in which near-duplicates may differ; 0: do not search",
    choices=_CHOICES,
)
