"""Checks of the file, of what its header says, and of what its source says about it.

A file that the serving operation cannot decode is transcoded to PNG without loss if Pillow can read
it (the repair `transcoded`), and otherwise rejected by the reason of `image_file/damage.py`.

The last checks are about images that the model sees otherwise than people do. Such images are not
repaired, because a model should be trained on the images that it will see.
"""

from __future__ import annotations

from imgpipe.components.common.image_file.damage import NOT_AN_IMAGE, TRUNCATED, UNDECODABLE
from imgpipe.components.common.image_row import (
    GROUP_ACROSS_SPLITS,
    OUTSIDE_CLASSES,
    TRANSCODED,
    TWO_GROUPS,
    TWO_LABELS,
    TWO_SPLITS,
    ImageFinding,
    ImageRow,
)
from imgpipe.components.image_filter.judge.check import CheckResult, check
from imgpipe.models import names

#: Problems that another label for the file solves, and those that it does not solve.
ABOUT_LABEL = (TWO_LABELS, OUTSIDE_CLASSES)
NOT_ABOUT_LABEL = (TWO_SPLITS, TWO_GROUPS, GROUP_ACROSS_SPLITS)
_BITS = 8  # that a model is given of each band of a pixel
#: Bands that are used, by Pillow's mode. It reads a file of four bands without alpha as RGB.
_USED_BANDS = {**dict.fromkeys(("RGB", "RGBA", "RGBX", "RGBa"), 3), "LA": 1, "La": 1}
_SHOWS_NOTHING = 8  # pixels of the shorter side of an image in which nobody sees a thing
_TO_SRGB = "convert the image to sRGB; until then it is used unchanged"
_TO_8_BITS = "store the image with 8 bits per channel, scaled to the range of its values"
_TO_THREE_BANDS = (
    "save the three bands that you want as an RGB image; until then the first three are used"
)


@check(
    "header",
    "make the file readable (permissions, target of a link, path in a list) and run again",
    unusable=("unreadable",),
)
def unreadable(image: ImageRow, _: object) -> CheckResult:
    """Files that cannot be read."""
    leads_outside = "data.follow_links" in image.read_error
    way = "if you trust where the links lead: --set data.follow_links=true" if leads_outside else ""
    return ImageFinding("unreadable", image.read_error, remedy=way) if image.read_error else None


@check(
    "header",
    "replace the file with the complete image and run again",
    unusable=("zero_byte",),
    titles={"zero_byte": "empty file"},
)
def zero_byte(image: ImageRow, _: object) -> CheckResult:
    """Empty files."""
    return None if image.byte_size else "the file is empty (0 bytes)"


@check(
    "header",
    "resize the image; or raise judge.pixel_limit, and --max_image_pixels of the server",
    setting="pixel_limit",
    unusable=("pixel_limit",),
    titles={"pixel_limit": "too many pixels"},
)
def pixel_limit(image: ImageRow, limit: int) -> CheckResult:
    """More pixels in the header than judge.pixel_limit."""
    if image.pixels <= limit:
        return None
    return (
        f"{image.size_in_words} = {image.pixels:,} pixels in the header, over "
        f"the limit of {limit:,}"
    )


@check(
    "header",
    "save the image again as JPEG or PNG, without texts and profiles",
    unusable=("hidden_cost",),
    titles={"hidden_cost": "too costly to decode"},
)
def hidden_cost(image: ImageRow, _: object) -> CheckResult:
    """More scans or texts than programs write, to exhaust a decoder."""
    return image.hidden_cost or None


@check(
    "header",
    "save the image again as JPEG or PNG, or download the original again",
    unusable=(NOT_AN_IMAGE, TRUNCATED, UNDECODABLE),
    titles={
        TRUNCATED: "cut short",
        UNDECODABLE: "cannot be decoded",
        TRANSCODED: "stored as PNG",
    },
)
def decodable(image: ImageRow, _: object) -> CheckResult:
    """Files that nobody reads, and those that only Pillow reads."""
    if image.converted:
        detail = f"{image.converted}, which the served model does not decode, is stored as PNG"
        return ImageFinding(TRANSCODED, detail, "repair")
    if image.unread:
        return ImageFinding(image.unread, image.decode_error, remedy=image.remedy)
    return None


@check(
    "header",
    "download or copy the original again, as binary data (for git: `*.jpg binary` in "
    ".gitattributes, or git lfs); keep it anyway with judge.severity.damaged or `imgpipe review`",
    may_be=("reject", "warn", "ignore"),
)
def damaged(image: ImageRow, _: object) -> CheckResult:
    """Damaged, although it can be decoded: a part of the pixels is wrong."""
    return image.damage or None


@check(
    "header",
    "use a larger copy of the image; if so small images are meant, lower judge.min_side",
    setting="min_side",
    may_be=("reject", "warn", "ignore"),
)
def too_small(image: ImageRow, least: int) -> CheckResult:
    """Side shorter than judge.min_side."""
    if min(image.width, image.height) >= least:
        return None
    detail = f"{image.size_in_words} pixels, the shorter side is below {least}"
    if min(image.width, image.height) >= _SHOWS_NOTHING:
        return detail
    remedy = "use the original of the image, or delete the file: so few pixels show nothing"
    return ImageFinding("too_small", detail, remedy=remedy)


@check(
    "header",
    'save the frame that you want as JPEG or PNG, or set judge.severity.animated = "warn" to use '
    "the first frame",
    may_be=("reject", "warn", "ignore"),
    titles={"animated": "several frames or pages"},
)
def animated(image: ImageRow, _: object) -> CheckResult:
    """More than one frame or page; only the first one is used."""
    if image.frames <= 1:
        return None
    return f"{image.format} with {image.frames} frames; expected a single image"


@check("header", "correct the source (manifest, folders) or [data] in the configuration")
def source_problem(image: ImageRow, _: object) -> CheckResult:
    """Problems that the source reports, with the reason that it gives."""
    return ImageFinding(image.problem, image.problem_detail) if image.problem else None


@check(
    "header",
    "move the file into the folder of its class, or give it a label in the list or with imgpipe "
    "review, and run again",
)
def no_label(image: ImageRow, _: object) -> CheckResult:
    """Images without a known label, which cannot be used for training."""
    if image.label_index >= 0:
        return None
    if image.label:
        return f"label {image.label!r} is not in the vocabulary of the run"
    return "the source gives it no label"


@check(
    "header",
    severity="warn",
    may_be=("warn",),
    titles={
        "cmyk": "colours for printing (CMYK)",
        "sixteen_bit": "more than 8 bits per channel",
        "unused_bands": "bands that are not used",
    },
)
def colours(image: ImageRow, _: object) -> CheckResult:
    """CMYK, more than 8 bits per channel, or more bands than the three that are used."""
    if image.mode in ("CMYK", "YCCK"):
        detail = f"{image.format} in {image.mode}; the served model may see wrong colours"
        return ImageFinding("cmyk", detail, remedy=_TO_SRGB)
    if image.bits > _BITS or image.mode.startswith(("I", "F")):
        detail = f"{image.format} with more than 8 bits per channel; 8 are used"
        return ImageFinding("sixteen_bit", detail, remedy=_TO_8_BITS)
    bands = image.bands or image.channels
    used = _USED_BANDS.get(image.mode, bands)
    if not image.converted or bands <= used:
        return None
    detail = f"{image.format} with {bands} bands; {used} {'is' if used == 1 else 'are'} used"
    return ImageFinding("unused_bands", detail, remedy=_TO_THREE_BANDS)


@check(
    "header",
    severity="warn",
    threshold=0.35,
    about="shorter side / longer side",
    titles={"odd_aspect_ratio": "very long or very wide"},
)
def odd_aspect_ratio(image: ImageRow, threshold: float) -> CheckResult:
    """Very long or very wide, such as strips and banners."""
    sides = sorted((image.width, image.height))
    ratio = sides[0] / sides[1] if sides[0] else 1.0  # an unknown size is not odd
    if ratio >= threshold:
        return None
    shape = f"1 to {sides[1] / sides[0]:.1f}"
    detail = f"{image.size_in_words} pixels, an aspect ratio of {shape}"
    return ImageFinding("odd_aspect_ratio", detail, score=ratio)


@check(
    "pixels",
    "put such images on a white background, as `magick mogrify -background white -alpha remove "
    "-alpha off FILES` does",
    severity="warn",
    titles={"alpha": "transparent pixels"},
)
def alpha(image: ImageRow, _: object) -> CheckResult:
    """Transparent pixels, whose hidden colours the model sees."""
    hidden = image.figures[names.TRANSPARENCY]
    if not hidden:
        return None
    return ImageFinding("alpha", f"{hidden:.1%} of the pixels are not opaque", score=-hidden)
