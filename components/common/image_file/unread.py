"""Files that nobody reads: by which reason one is rejected, why, and what to do.

It is decided once, where the file is inspected. The name of the file is not asked.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from imgpipe.components.common.image_file.header import ONLY_PREVIEW, converted_formats
from imgpipe.models.machine.system import install_extra
from imgpipe.serving.look import HEIC, IPHONE_REMEDY, Look

NOT_AN_IMAGE = "not_an_image"
TRUNCATED = "truncated"
UNDECODABLE = "undecodable"
MOST_BANDS = 4  # of a TIFF file; with more, as satellites write them, a file is not read
_THREE_BANDS = "save the three bands that show what you are looking for as an RGB image"
_EXPORT_RAW = (
    "export the photographs as JPEG in the program of the camera, or with darktable-cli FILE x.jpg"
)
#: First bytes of camera raw that is no TIFF file, or of Canon's, which is one: Olympus, Panasonic
#: and Leica, Canon, Minolta, Fujifilm, Sigma.
_CAMERA_RAW = re.compile(
    rb"II(?:R[OS]|U\0|\x1a\0|\*\0.{4}CR)|....ftypcrx|\0MRM|FUJIFILMCCD-RAW|FOVb", re.DOTALL
)
#: What Pillow says of an image whose end is missing.
_END_IS_MISSING = re.compile("truncated|[Uu]nexpected end")


class Unread(NamedTuple):
    """What is said of a file that nobody reads."""

    reason: str
    why: str
    remedy: str = ""  # what to do, if it is not to save or download the image again


def unread(look: Look, known_format: str, bands: int, said: str) -> Unread:
    """Return what is said of a file that nobody reads.

    Args:
        look: The look at the file.
        known_format: Name of its format where its header is known, otherwise "".
        bands: Number of bands of a TIFF file; otherwise 0.
        said: Why Pillow cannot read the file; it reads some files with more bands than are used.
    """
    name, remedy = look.described()
    if bands > MOST_BANDS:
        why = f"TIFF with {bands} bands; files with at most {MOST_BANDS} are read"
        return Unread(UNDECODABLE, why, _THREE_BANDS)
    if ONLY_PREVIEW in said:
        return Unread(UNDECODABLE, said, _EXPORT_RAW)
    if _CAMERA_RAW.match(look.data):
        return Unread(UNDECODABLE, f"camera raw ({name})", _EXPORT_RAW)
    accepted = converted_formats()
    if look.format or known_format or look.other_format in accepted:
        refusal = look.refusal(accepted).partition(". ")[0].removesuffix(".")
        if look.is_cut_short:
            return Unread(TRUNCATED, f"{refusal}.")
        reason = TRUNCATED if _END_IS_MISSING.search(said) else UNDECODABLE
        return Unread(reason, f"{refusal}. Pillow: {said}.")
    if look.other_format == HEIC:
        package = "to use HEIC files, install the package that reads them, and run again: "
        remedy = f"{package}{install_extra('heic')}; {IPHONE_REMEDY}"
    if look.other_format:
        return Unread(UNDECODABLE, f"{name}, a format that is not accepted", remedy)
    return Unread(NOT_AN_IMAGE, name, remedy)
