"""Transparent pixels: the serving op drops the alpha channel and shows what lies under it."""

from __future__ import annotations

from components.checks.base import Check, Record, Settings, Verdict
from components.sources.header import pillow
from components.sources.measuring import on_white


def judge(record: Record, settings: Settings) -> Verdict | None:
    """Name pictures with a pixel that is not opaque; an alpha channel without one is harmless."""
    share = record.measured.transparency if record.measured else 0.0
    if not share:
        return None
    return Verdict(CHECK.name, f"{share:.1%} of the pixels are not opaque", score=-share)


def mend(record: Record, data: bytes) -> bytes:
    """The picture on white, from the original: what was mended so far has no alpha left."""
    with pillow(record.data) as image:
        return on_white(image)


CHECK = Check(
    "alpha",
    judge,
    'set judge.severity.alpha = "repair" to put such pictures on white',
    severity="warn",
    may_be=("warn", "repair", "reject", "ignore"),
    finds="Transparent pixels, served as what lies under them; repair: on white",
    mend=mend,
)
