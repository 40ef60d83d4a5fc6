"""Checks of what an image shows, by itself and beside the other images.

A measurement is compared with a threshold. The measurements are those of CleanVision,
computed from the pixels that the serving operation decodes (`common/image_file/pixels.py`). For
near-duplicates, `imgpipe.components.image_filter.engine` compares the images with each other.
"""

from __future__ import annotations

from collections.abc import Mapping

from imgpipe.components.common.image_file.content import GREY_MODES
from imgpipe.components.common.image_file.pixels import SHARP
from imgpipe.components.common.image_row import ImageFinding, ImageRow
from imgpipe.components.image_filter.judge.check import (
    WARN,
    CheckResult,
    ImageCheck,
    check,
    usual_remedy,
)
from imgpipe.models import names
from imgpipe.models.settings.data import JudgeSettings, Severity

_BITS = 0.1  # scale of the entropy; images of three 8-bit channels always have less than ten bits

NEAR_DUPLICATE = "near_duplicate"
NEAR_DUPLICATE_ACROSS_SPLITS = "near_duplicate_across_splits"
NEAR_DUPLICATE_LABEL_CONFLICT = "near_duplicate_label_conflict"
#: Default radius in bits. Copies that were saved again, resized, brightened or cropped by 5 % are
#: within it. So are different images before the same background; the grey images refuse these.
RADIUS = 40
_JOIN_SPLITS = "put both copies into one split (data.group_pattern keeps copies together)"
#: What to do about a near-duplicate, by the reason and what happens to the image.
NEAR_REMEDIES: Mapping[tuple[str, Severity], str] = {
    (NEAR_DUPLICATE_ACROSS_SPLITS, "reject"): (
        f"{_JOIN_SPLITS}, or set judge.severity.{NEAR_DUPLICATE_ACROSS_SPLITS} to "
        '"warn" and evaluate on training images'
    ),
    (NEAR_DUPLICATE_ACROSS_SPLITS, "warn"): _JOIN_SPLITS,
    (NEAR_DUPLICATE_LABEL_CONFLICT, "warn"): (
        "give both copies the right label, or delete the wrong one, and run again"
    ),
    (NEAR_DUPLICATE, "reject"): (
        f'set judge.severity.{NEAR_DUPLICATE} to "warn", or delete the copy that you do not need'
    ),
    (NEAR_DUPLICATE, "warn"): usual_remedy(NEAR_DUPLICATE),
}
NEAR_DUPLICATE_CHECK = ImageCheck(
    NEAR_DUPLICATE,
    "set",
    None,
    NEAR_REMEDIES[NEAR_DUPLICATE, "warn"],
    severity="warn",
    may_be=WARN,
    finds="Nearly the same image in the same split",
    threshold=RADIUS,
    about="bits of 256 in which near-duplicates may differ; 0: do not search",
    titles={
        NEAR_DUPLICATE: "near-duplicate",
        NEAR_DUPLICATE_LABEL_CONFLICT: "near-duplicate with another label",
    },
)
ACROSS_SPLITS_CHECK = ImageCheck(
    NEAR_DUPLICATE_ACROSS_SPLITS,
    "set",
    None,
    NEAR_REMEDIES[NEAR_DUPLICATE_ACROSS_SPLITS, "reject"],
    may_be=WARN,
    finds="Nearly the same image in another split",
    titles={NEAR_DUPLICATE_ACROSS_SPLITS: "near-duplicate in another split"},
)


def radius_in(settings: JudgeSettings) -> int:
    """Return the largest distance of near-duplicates in bits; 0 turns the search off."""
    return int(NEAR_DUPLICATE_CHECK.limit_in(settings))


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
