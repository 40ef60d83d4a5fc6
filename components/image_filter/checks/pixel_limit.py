"""Files with more pixels than the limit, such as decompression bombs; they are never decoded."""

from __future__ import annotations

from imgpipe.components.image_filter.check import Check, Finding, Settings
from imgpipe.components.image_record import ImageRecord


def judge(record: ImageRecord, settings: Settings) -> Finding | None:
    """Reject images whose header states more pixels than the limit."""
    if record.pixels <= settings.pixel_limit:
        return None
    return Finding(
        CHECK.name,
        f"{record.width} x {record.height} = {record.pixels:,} pixels in the header, over the "
        f"limit of {settings.pixel_limit:,}",
    )


CHECK = Check(
    "pixel_limit",
    30,
    "header",
    judge,
    "raise judge.pixel_limit, or resize the image",
    unusable=("pixel_limit",),
)
