"""Images in CMYK: the serving op reads them without their colour profile."""

from __future__ import annotations

from imgpipe.components.image_filter.check import Check, Finding, Settings
from imgpipe.components.image_record import ImageRecord


def judge(record: ImageRecord, settings: Settings) -> Finding | None:
    """Report images in CMYK or YCCK."""
    if record.mode not in ("CMYK", "YCCK"):
        return None
    return Finding(CHECK.name, f"{record.format} in {record.mode}; served colours may be off")


CHECK = Check(
    "cmyk",
    110,
    "header",
    judge,
    "convert the image to sRGB; it is used as it is meanwhile",
    severity="warn",
    may_be=("warn", "reject", "ignore"),
    finds="Ink colours, read without their colour profile",
)
