"""Strips and banners: resized to a square, nothing in them keeps its shape."""

from __future__ import annotations

from imgpipe.components.image_filter.check import Record, Settings, Verdict
from imgpipe.components.image_filter.checks.quality.base import make


def judge(record: Record, settings: Settings) -> Verdict | None:
    """Object to a side that is under a share of the other."""
    sides = sorted((record.width, record.height))
    ratio = sides[0] / sides[1] if sides[0] else 1.0  # a size that nobody knows is not odd
    if ratio >= CHECK.threshold_in(settings):
        return None
    detail = f"{record.width} x {record.height} pixels, sides as 1 to {sides[1] / sides[0]:.1f}"
    return Verdict(CHECK.name, detail, score=ratio)


CHECK = make("odd_aspect_ratio", judge, 0.35, "shorter side / longer side", "Strips and banners")
