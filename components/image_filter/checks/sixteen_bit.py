"""Images with 16 bits per channel: the serving operation keeps the upper 8, which may be dark."""

from __future__ import annotations

from imgpipe.components.image_filter.check import Check, Finding, Settings
from imgpipe.components.image_record import ImageRecord

_PNG, _PNG_DEPTH = b"\x89PNG\r\n\x1a\n", 24  # the depth is the 25th byte of every PNG file


def judge(record: ImageRecord, settings: Settings) -> Finding | None:
    """Report PNG with 16 bits per channel, and other files that Pillow opens with more than 8."""
    head = record.image_bytes[: _PNG_DEPTH + 1]
    png = head.startswith(_PNG) and head[_PNG_DEPTH:] == b"\x10"
    if not png and not record.mode.startswith(("I", "F")):
        return None
    return Finding(CHECK.name, f"{record.format} with more than 8 bits per channel; 8 are used")


CHECK = Check(
    "sixteen_bit",
    120,
    "header",
    judge,
    "store the image with 8 bits per channel, scaled to the range of its values",
    severity="warn",
    may_be=("warn", "reject", "ignore"),
    finds="More than 8 bits per channel; only the upper 8 are used",
)
