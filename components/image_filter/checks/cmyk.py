"""Pictures in ink colours: the serving op reads them without their colour profile."""

from __future__ import annotations

from imgpipe.components.image_filter.check import Check, Record, Settings, Verdict


def judge(record: Record, settings: Settings) -> Verdict | None:
    """Name CMYK and its kin."""
    if record.mode not in ("CMYK", "YCCK"):
        return None
    return Verdict(CHECK.name, f"{record.format} in {record.mode}; served colours may be off")


CHECK = Check(
    "cmyk",
    judge,
    "convert the picture to sRGB; it is used as it is meanwhile",
    severity="warn",
    may_be=("warn", "reject", "ignore"),
    finds="Ink colours, read without their colour profile",
)
