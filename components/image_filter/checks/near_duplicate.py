"""Near-duplicates: what the configuration may set, and what to do about them.

Nothing here looks at a single image: `imgpipe.components.image_filter.near_duplicates` compares
the images of the whole set with each other.
"""

from __future__ import annotations

from collections.abc import Mapping

from imgpipe.components.image_filter.check import Check, Choice, Finding, Settings, Severity
from imgpipe.components.image_filter.near_duplicates.search import RADIUS
from imgpipe.components.image_record import ImageRecord

NEAR = "near_duplicate"
ACROSS_SPLITS = "near_duplicate_across_splits"
LABEL_CONFLICT = "near_duplicate_label_conflict"

#: What to do when a rejected copy is wanted after all, by reason.
REMEDIES = {
    NEAR: 'set judge.severity.near_duplicate to "warn", or delete the copy that is not wanted',
    ACROSS_SPLITS: "put both copies into one split (data.group_pattern keeps copies together), or "
    'set judge.severity.near_duplicate_across_splits to "warn" and measure on what was trained on',
    LABEL_CONFLICT: "give both copies the right label, or delete the wrong one, and run again",
}
_MAY_BE: tuple[Severity, ...] = ("reject", "warn", "ignore")
_CHOICES = {
    ACROSS_SPLITS: Choice(
        "reject", _MAY_BE, "A training image that is nearly one of another split"
    ),
    LABEL_CONFLICT: Choice("warn", _MAY_BE, "Nearly the same image under two labels"),
    NEAR: Choice("warn", _MAY_BE, "Nearly the same image again in its split"),
}
SEVERITIES: Mapping[str, Severity] = {name: choice.usual for name, choice in _CHOICES.items()}


def judge(record: ImageRecord, settings: Settings) -> Finding | None:
    """A single image is never a near-duplicate."""
    return None


CHECK = Check(
    NEAR,
    210,
    "set",
    judge,
    REMEDIES[NEAR],
    severity="warn",
    threshold=RADIUS,
    about="bits of 256 in which near-duplicates may differ; 0: none are looked for",
    choices=_CHOICES,
)
