"""Pixel bombs: more pixels than the limit by the header, so never handed to a decoder."""

from __future__ import annotations

from imgpipe.components.image_filter.check import Check, Record, Settings, Verdict


def judge(record: Record, settings: Settings) -> Verdict | None:
    """Reject images over the pixel limit."""
    if record.pixels <= settings.pixel_limit:
        return None
    return Verdict(
        CHECK.name,
        f"{record.width} x {record.height} = {record.pixels:,} pixels by the header, over the "
        f"limit of {settings.pixel_limit:,}",
    )


CHECK = Check("pixel_limit", judge, "raise judge.pixel_limit, or store the picture smaller")
