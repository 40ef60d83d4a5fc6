"""Grey images, including those that are stored with three channels."""

from __future__ import annotations

from imgpipe.components.image_file.measurements import Measurement
from imgpipe.components.image_filter.check import Check, Finding, Settings
from imgpipe.components.image_filter.checks.quality import MAY_BE, remedy
from imgpipe.components.image_record import ImageRecord
from imgpipe.models import feature_names as names

_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")


def judge(record: ImageRecord, settings: Settings) -> Finding | None:
    """Report images without colour."""
    if record.mode in _GREY_MODES:
        return Finding(CHECK.name, f"{record.format} in grey ({record.mode})")
    colour = record.figures.get(names.COLOUR)
    if colour is None or colour > CHECK.threshold_in(settings):
        return None
    return Finding(CHECK.name, f"grey, stored as {record.mode}", score=colour)


CHECK = Check(
    "greyscale",
    200,
    "pixels",
    judge,
    remedy("greyscale"),
    severity="warn",
    may_be=MAY_BE,
    finds="Grey, even if stored with colour channels",
    measurement=Measurement(names.COLOUR, lambda pixels: pixels.colour),
    # Four levels of 255: JPEG changes grey by that much. A faded photograph has 20 or more.
    threshold=0.016,
    about="greatest difference between channels, 0..1",
)
