"""Strips and banners, which are distorted when they are resized to a square."""

from __future__ import annotations

from imgpipe.components.image_filter.check import Check, Finding, Settings
from imgpipe.components.image_filter.checks.quality import MAY_BE, remedy
from imgpipe.components.image_record import ImageRecord


def judge(record: ImageRecord, settings: Settings) -> Finding | None:
    """Report images whose shorter side is less than a given share of the longer side."""
    sides = sorted((record.width, record.height))
    ratio = sides[0] / sides[1] if sides[0] else 1.0  # an unknown size is not odd
    if ratio >= CHECK.threshold_in(settings):
        return None
    shape = f"1 to {sides[1] / sides[0]:.1f}"
    detail = f"{record.width} x {record.height} pixels, an aspect ratio of {shape}"
    return Finding(CHECK.name, detail, score=ratio)


CHECK = Check(
    "odd_aspect_ratio",
    180,
    "header",
    judge,
    remedy("odd_aspect_ratio"),
    severity="warn",
    may_be=MAY_BE,
    finds="Very long or very wide, such as strips and banners",
    threshold=0.35,
    about="shorter side / longer side",
)
