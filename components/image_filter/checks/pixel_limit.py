"""Decompression bombs: files with more pixels than the limit, which are never decoded."""

from __future__ import annotations

from imgpipe.components.image_filter.check import Check, Finding, Settings
from imgpipe.components.image_record import ImageRecord


def judge(record: ImageRecord, settings: Settings) -> Finding | None:
    """Reject images with more pixels than the limit, by their header."""
    if record.pixels <= settings.pixel_limit:
        return None
    return Finding(
        CHECK.name,
        f"{record.width} x {record.height} = {record.pixels:,} pixels by the header, over the "
        f"limit of {settings.pixel_limit:,}",
    )


CHECK = Check(
    "pixel_limit",
    30,
    "header",
    judge,
    "raise judge.pixel_limit, or store the image smaller",
    unusable=("pixel_limit",),
)
