"""Files that the serving operation cannot decode.

They are transcoded to PNG without loss if Pillow can read them (the repair `transcoded`), and
otherwise rejected as `not_an_image`, `truncated`, `undecodable` or, by their names, `other_file`.
"""

from __future__ import annotations

from imgpipe.components.common.image_file import file_names
from imgpipe.components.common.image_file.header import (
    HEIC_REMEDY,
    ONLY_PREVIEW,
    converted_formats,
)
from imgpipe.components.common.image_file.tiff_tags import MOST_BANDS, bands_and_bits
from imgpipe.components.common.image_record import TRANSCODED, ImageRecord
from imgpipe.components.image_filter.judge.check import CheckResult, ImageFinding, check
from imgpipe.serving.look import HEIC, Look

NOT_AN_IMAGE = "not_an_image"
TRUNCATED = "truncated"
UNDECODABLE = "undecodable"
OTHER_FILE = "other_file"
_EXPORT_RAW = (
    "export the photographs as JPEG in the program of the camera, or with darktable-cli FILE x.jpg"
)
_THREE_BANDS = "save the three bands that show what you are looking for as an RGB image"


@check(
    "header",
    "save the image again as JPEG or PNG, or download the original again",
    unusable=(NOT_AN_IMAGE, TRUNCATED, UNDECODABLE, OTHER_FILE),
    titles={
        TRUNCATED: "cut short",
        UNDECODABLE: "cannot be decoded",
        TRANSCODED: "stored as PNG",
        OTHER_FILE: "no image by its name",
    },
)
def decodable(record: ImageRecord, _: object) -> CheckResult:
    """Files that nobody reads, and those that only Pillow reads."""
    content = record.content
    if not content.decode_error:
        return None
    bands, _ = bands_and_bits(record.image_bytes)
    if bands > MOST_BANDS:
        detail = f"TIFF with {bands} bands; files with at most {MOST_BANDS} are read"
        return ImageFinding(UNDECODABLE, detail, remedy=_THREE_BANDS)
    if content.converted:
        detail = f"{content.converted}, which the served model does not decode, is stored as PNG"
        return ImageFinding(TRANSCODED, detail, "repair")
    problem = content.pillow_error
    if ONLY_PREVIEW in problem:
        return ImageFinding(UNDECODABLE, problem, remedy=_EXPORT_RAW)
    said = content.decode_error.split(". ")[0].removesuffix(".")
    look = Look(record.image_bytes)
    if not look.format and not content.format:
        return _unknown(record, look, said)
    if look.is_cut_short:
        return ImageFinding(TRUNCATED, f"{said}.")
    detail = f"{said}. Pillow: {problem}."
    if "truncated" in problem or "unexpected end" in problem.lower():
        return ImageFinding(TRUNCATED, detail)
    return ImageFinding(UNDECODABLE, detail)


def _unknown(record: ImageRecord, look: Look, detail: str) -> ImageFinding:
    """Name the reason of a file that is none of those that are read, and what to do."""
    name, remedy = look.described()
    if file_names.kind_by_ending(record.path) == "camera_raw":
        return ImageFinding(UNDECODABLE, f"camera raw ({name})", remedy=_EXPORT_RAW)
    if look.other_format in converted_formats():  # the file is damaged
        return ImageFinding(UNDECODABLE, detail)
    if look.other_format == HEIC:
        return ImageFinding(UNDECODABLE, detail, remedy="; ".join(HEIC_REMEDY))
    if not file_names.claims_to_be_image(record.path):
        return ImageFinding(OTHER_FILE, name, remedy=f"{remedy}; it does not count as an image")
    if look.other_format or name.endswith("Image format") or look.data[:2] in (b"II", b"MM"):
        return ImageFinding(UNDECODABLE, f"{name}, a format that is not accepted", remedy=remedy)
    return ImageFinding(NOT_AN_IMAGE, name, remedy=remedy)
