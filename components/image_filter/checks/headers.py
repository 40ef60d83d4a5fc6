"""Checks of what the header says: size, number of frames and kind of colours."""

from __future__ import annotations

from imgpipe.components.image_filter.check import Finding, Result, Settings, check
from imgpipe.components.image_filter.checks.quality import MAY_BE, remedy
from imgpipe.components.image_record import ImageRecord


@check(
    30,
    "header",
    "raise judge.pixel_limit, or resize the image",
    unusable=("pixel_limit",),
)
def pixel_limit(record: ImageRecord, settings: Settings) -> Result:
    """Reject images whose header states more pixels than the limit."""
    if record.pixels <= settings.pixel_limit:
        return None
    return (
        f"{record.width} x {record.height} = {record.pixels:,} pixels in the header, over the "
        f"limit of {settings.pixel_limit:,}"
    )


@check(
    50,
    "header",
    "lower judge.min_side",
    may_be=("reject", "warn", "ignore"),
    finds="A side shorter than judge.min_side",
)
def too_small(record: ImageRecord, settings: Settings) -> Result:
    """Reject images whose shorter side is below the limit."""
    if min(record.width, record.height) >= settings.min_side:
        return None
    return f"{record.width} x {record.height} pixels, the shorter side is below {settings.min_side}"


@check(
    60,
    "header",
    'save the frame that you want as JPEG or PNG, or set judge.severity.animated = "warn" to use '
    "the first frame",
    may_be=("reject", "warn", "ignore"),
    finds="More than one frame or page; only the first one is used",
)
def animated(record: ImageRecord, settings: Settings) -> Result:
    """Reject files with more than one frame or page."""
    if record.frames <= 1:
        return None
    return f"{record.format} with {record.frames} frames; expected a single image"


@check(
    110,
    "header",
    "convert the image to sRGB; until then it is used unchanged",
    severity="warn",
    may_be=("warn", "reject", "ignore"),
    finds="CMYK colours, decoded without their colour profile",
)
def cmyk(record: ImageRecord, settings: Settings) -> Result:
    """Report images in CMYK or YCCK."""
    if record.mode not in ("CMYK", "YCCK"):
        return None
    return f"{record.format} in {record.mode}; the served model may see wrong colours"


_PNG, _PNG_DEPTH = b"\x89PNG\r\n\x1a\n", 24  # the depth is the 25th byte of every PNG file


@check(
    120,
    "header",
    "store the image with 8 bits per channel, scaled to the range of its values",
    severity="warn",
    may_be=("warn", "reject", "ignore"),
    finds="More than 8 bits per channel; only the upper 8 are used",
)
def sixteen_bit(record: ImageRecord, settings: Settings) -> Result:
    """Report PNG with 16 bits per channel, and other files that Pillow opens with more than 8."""
    head = record.image_bytes[: _PNG_DEPTH + 1]
    png = head.startswith(_PNG) and head[_PNG_DEPTH:] == b"\x10"
    if not png and not record.mode.startswith(("I", "F")):
        return None
    return f"{record.format} with more than 8 bits per channel; 8 are used"


@check(
    180,
    "header",
    remedy("odd_aspect_ratio"),
    severity="warn",
    may_be=MAY_BE,
    finds="Very long or very wide, such as strips and banners",
    threshold=0.35,
    about="shorter side / longer side",
)
def odd_aspect_ratio(record: ImageRecord, settings: Settings) -> Result:
    """Report images whose shorter side is less than a given share of the longer side."""
    sides = sorted((record.width, record.height))
    ratio = sides[0] / sides[1] if sides[0] else 1.0  # an unknown size is not odd
    if ratio >= odd_aspect_ratio.threshold_in(settings):
        return None
    shape = f"1 to {sides[1] / sides[0]:.1f}"
    detail = f"{record.width} x {record.height} pixels, an aspect ratio of {shape}"
    return Finding("odd_aspect_ratio", detail, score=ratio)
