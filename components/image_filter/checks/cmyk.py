"""CMYK images: the serving operation decodes them without their colour profile."""

from __future__ import annotations

from imgpipe.components.image_filter.check import Check, Finding, Settings
from imgpipe.components.image_record import ImageRecord


def judge(record: ImageRecord, settings: Settings) -> Finding | None:
    """Report images in CMYK or YCCK."""
    if record.mode not in ("CMYK", "YCCK"):
        return None
    detail = f"{record.format} in {record.mode}; the served model may see wrong colours"
    return Finding(CHECK.name, detail)


CHECK = Check(
    "cmyk",
    110,
    "header",
    judge,
    "convert the image to sRGB; until then it is used unchanged",
    severity="warn",
    may_be=("warn", "reject", "ignore"),
    finds="CMYK colours, decoded without their colour profile",
)
