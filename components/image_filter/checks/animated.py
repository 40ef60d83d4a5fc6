"""Animations: the served model sees only the first frame, which may be empty."""

from __future__ import annotations

from imgpipe.components.image_filter.check import Check, Finding, Settings
from imgpipe.components.image_record import ImageRecord


def judge(record: ImageRecord, settings: Settings) -> Finding | None:
    """Reject files with more than one frame or page."""
    if record.frames <= 1:
        return None
    detail = f"{record.format} with {record.frames} frames; expected a single image"
    return Finding(CHECK.name, detail)


CHECK = Check(
    "animated",
    60,
    "header",
    judge,
    'save the frame that you want as JPEG or PNG, or set judge.severity.animated = "warn" to use '
    "the first frame",
    may_be=("reject", "warn", "ignore"),
    finds="More than one frame or page; only the first one is used",
)
