"""Checks of image quality, which compare a measurement with a threshold.

The measurements are those of CleanVision, computed from the pixels that the serving operation
decodes (`common/image_file/pixels.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from imgpipe.components.common.image_file.content import Content
from imgpipe.components.common.image_file.pixels import SHARP
from imgpipe.components.common.image_record import ImageRecord
from imgpipe.components.image_filter.judge.check import (
    WARN,
    ImageCheck,
    ImageFinding,
    Result,
    check,
)
from imgpipe.models.names import feature_names as names

_BITS = 0.1  # scale of the entropy; images of three 8-bit channels always have less than ten bits
#: Four levels of 255: JPEG changes grey by that much. A faded photograph has 20 or more.
_COLOURED = 0.016
_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")


def remedy(name: str) -> str:
    """Return what to do about a finding of the check `name`."""
    return (
        f"look at them (--html FILE); to leave them out: --set judge.severity.{name}=reject; to "
        f"hear no more of them: --set judge.severity.{name}=ignore"
    )


def low_value_check(
    name: str,
    measurement: str,
    threshold: float,
    about: str,
    finds: str,
    seen: str,
    score: Callable[[float], float] = lambda value: value,
) -> ImageCheck:
    """Create a check that reports images whose score, made of a measurement, is below a threshold.

    `about` and `finds` are for the configuration file. `seen` is what a person sees in such a
    picture: in a few words, a colon, and more.
    """
    title, _, detail = seen.partition(": ")

    def judge(record: ImageRecord, threshold: float) -> ImageFinding | None:
        value = score(record.content.figures[measurement])
        return None if value >= threshold else ImageFinding(name, detail, score=value)

    return ImageCheck(
        name,
        "pixels",
        judge,
        remedy(name),
        severity="warn",
        may_be=WARN,
        finds=finds,
        threshold=threshold,
        about=about,
        titles={name: title},
    )


DARK = low_value_check(
    "dark",
    names.BRIGHTNESS_P99,
    threshold=0.32,
    about="luminance that the brightest 1 % exceed",
    finds="Too dark",
    seen="almost black: even its brightest parts are dark",
)

LIGHT = low_value_check(
    "light",
    names.BRIGHTNESS_P5,
    score=lambda brightness: 1 - brightness,
    threshold=0.05,
    about="darkness that the darkest 5 % exceed",
    finds="Too light",
    seen="almost white: even its darkest parts are bright",
)

LOW_INFORMATION = low_value_check(
    "low_information",
    names.ENTROPY,
    score=lambda entropy: min(_BITS * entropy, 1.0),
    threshold=0.3,
    about="variety of tones (a tenth of their entropy in bits)",
    finds="Few tones, such as blank pages",
    seen="hardly anything to see: almost one tone, as a blank page",
)


BLURRY = low_value_check(
    "blurry",
    names.SHARPNESS,
    threshold=SHARP,
    about="sharpness",
    finds="Blurred even when resized to 64 pixels",
    seen="blurred: no sharp edge, even when it is shown at the size of a stamp",
)


@check(
    "pixels",
    remedy("greyscale"),
    severity="warn",
    titles={"greyscale": "grey"},
)
def greyscale(record: ImageRecord, _: object) -> Result:
    """Grey, even if stored with colour channels."""
    content = record.content
    if not is_grey(content):
        return None
    if content.mode in _GREY_MODES:
        return f"{content.format} in grey ({content.mode})"
    colour = content.figures[names.COLOUR]
    return ImageFinding("greyscale", f"grey, stored as {content.mode}", score=colour)


def is_grey(content: Content) -> bool:
    """Return whether an image is grey, even if it is stored with colour channels."""
    grey = names.COLOUR in content.figures and content.figures[names.COLOUR] <= _COLOURED
    return content.mode in _GREY_MODES or grey
