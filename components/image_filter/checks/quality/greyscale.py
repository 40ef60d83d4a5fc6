"""Grey pictures, also when they are stored with three channels."""

from __future__ import annotations

from imgpipe.components.image_filter.check import Record, Settings, Verdict
from imgpipe.components.image_filter.checks.quality.base import make

_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")


def judge(record: Record, settings: Settings) -> Verdict | None:
    """Object when no part of the picture has colour."""
    if record.mode in _GREY_MODES:
        return Verdict(CHECK.name, f"{record.format} in grey ({record.mode})")
    if record.measured is None or record.measured.colour > CHECK.threshold_in(settings):
        return None
    return Verdict(CHECK.name, f"grey, stored as {record.mode}", score=record.measured.colour)


# Four levels of 255: what JPEG's chroma makes of grey; a faded colour photograph has 20 and more.
CHECK = make(
    "greyscale",
    judge,
    0.016,
    "greatest difference between channels, 0..1",
    "Without colour, however it is stored",
)
