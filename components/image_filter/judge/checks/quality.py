"""Checks of image quality, which compare a measurement with a threshold.

The measurements are those of CleanVision, computed from the pixels that the serving operation
decodes (`common/image_file/pixels.py`).
"""

from __future__ import annotations

from imgpipe.components.common.image_file.content import GREY_MODES
from imgpipe.components.common.image_file.pixels import SHARP
from imgpipe.components.common.image_row import ImageFinding, ImageRow
from imgpipe.components.image_filter.judge.check import CheckResult, check
from imgpipe.models import names

_BITS = 0.1  # scale of the entropy; images of three 8-bit channels always have less than ten bits


def _below(name: str, seen: str, value: float, least: float) -> CheckResult:
    """Return the finding that a value, which is its score, is below the least one."""
    return None if value >= least else ImageFinding(name, seen, score=value)


@check(
    "pixels",
    severity="warn",
    threshold=0.32,
    about="luminance that the brightest 1 % exceed",
    titles={"dark": "almost black"},
)
def dark(image: ImageRow, least: float) -> CheckResult:
    """Too dark."""
    brightest = image.figures[names.BRIGHTNESS_P99]
    return _below("dark", "even its brightest parts are dark", brightest, least)


@check(
    "pixels",
    severity="warn",
    threshold=0.05,
    about="darkness that the darkest 5 % exceed",
    titles={"light": "almost white"},
)
def light(image: ImageRow, least: float) -> CheckResult:
    """Too light."""
    darkness = 1 - image.figures[names.BRIGHTNESS_P5]
    return _below("light", "even its darkest parts are bright", darkness, least)


@check(
    "pixels",
    severity="warn",
    threshold=0.3,
    about="variety of tones (a tenth of their entropy in bits)",
    titles={"low_information": "hardly anything to see"},
)
def low_information(image: ImageRow, least: float) -> CheckResult:
    """Few tones, such as blank pages."""
    variety = min(_BITS * image.figures[names.ENTROPY], 1.0)
    return _below("low_information", "almost one tone, as a blank page", variety, least)


@check(
    "pixels",
    severity="warn",
    threshold=SHARP,
    about="sharpness",
    titles={"blurry": "blurred"},
)
def blurry(image: ImageRow, least: float) -> CheckResult:
    """Blurred even when resized to 64 pixels."""
    seen = "no sharp edge, even when it is shown at the size of a stamp"
    return _below("blurry", seen, image.figures[names.SHARPNESS], least)


@check("pixels", severity="warn", titles={"greyscale": "grey"})
def greyscale(image: ImageRow, _: object) -> CheckResult:
    """Grey, even if stored with colour channels."""
    if not image.is_grey:
        return None
    if image.mode in GREY_MODES:
        return f"{image.format} in grey ({image.mode})"
    colour = image.figures[names.COLOUR]
    return ImageFinding("greyscale", f"grey, stored as {image.mode}", score=colour)
