"""Animations: the served model sees only the first frame, which may show nothing."""

from __future__ import annotations

from imgpipe.components.image_filter.check import Check, Finding, Settings
from imgpipe.components.image_record import ImageRecord


def judge(record: ImageRecord, settings: Settings) -> Finding | None:
    """Reject files with more than one frame or page."""
    if record.frames <= 1:
        return None
    return Finding(CHECK.name, f"{record.format} with {record.frames} frames, not one image")


CHECK = Check(
    "animated",
    60,
    "header",
    judge,
    'save the wanted frame as JPEG or PNG, or set judge.severity.animated = "warn": the first '
    "frame is used then",
    may_be=("reject", "warn", "ignore"),
    finds="More than one frame or page; the first is used when it is kept",
)
