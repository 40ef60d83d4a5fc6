"""Images with a very short side, such as icons and tracking pixels."""

from __future__ import annotations

from imgpipe.components.image_filter.check import Check, Finding, Settings
from imgpipe.components.image_record import ImageRecord


def judge(record: ImageRecord, settings: Settings) -> Finding | None:
    """Reject images whose shorter side is below the limit."""
    if min(record.width, record.height) >= settings.min_side:
        return None
    return Finding(
        CHECK.name,
        f"{record.width} x {record.height} pixels, the shorter side is below {settings.min_side}",
    )


CHECK = Check(
    "too_small",
    50,
    "header",
    judge,
    "lower judge.min_side",
    may_be=("reject", "warn", "ignore"),
    finds="A side shorter than judge.min_side",
)
