"""Transparent pixels: the serving op drops the alpha channel and shows what lies under it."""

from __future__ import annotations

from imgpipe.components.image_file.header import pillow
from imgpipe.components.image_file.measurements import on_white
from imgpipe.components.image_filter.check import Check, Record, Settings, Verdict


def judge(record: Record, settings: Settings) -> Verdict | None:
    """Name pictures with a pixel that is not opaque; an alpha channel without one is harmless."""
    hidden = record.measured.transparency if record.measured else 0.0
    if not hidden:
        return None
    return Verdict(CHECK.name, f"{hidden:.1%} of the pixels are not opaque", score=-hidden)


def share(record: Record) -> float:
    """Share of the pixels that are not opaque, 0..1, of a file that only Pillow reads."""
    if record.mode not in ("RGBA", "LA", "PA"):
        return 0.0
    with pillow(record.data) as image:
        counts = image.convert("RGBA").getchannel("A").histogram()
    return 1 - counts[-1] / sum(counts)


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
