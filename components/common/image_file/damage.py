"""What is wrong with an image file: signs of damage, and why nobody reads it.

The serving op passes over libjpeg's warnings, after which pixels are grey or at a wrong place. It
refuses a PNG with a wrong checksum, at which Pillow, which is asked then, does not look. It shows
the part of a GIF before the damage, at which Pillow stops. In files of other formats no damage is
looked for.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import simplejpeg

from imgpipe.components.common.image_file.header import (
    ONLY_PREVIEW,
    Header,
    converted_formats,
    error_of_pillow,
)
from imgpipe.models.machine.system import install_extra
from imgpipe.serving.look import HEIC, IPHONE_REMEDY, Look

#: What libjpeg says when the pixels are wrong (`jerror.h`). Its other warnings are about headers or
#: a missing marker at the end; its errors are about kinds of JPEG that the op may know.
_WRONG_PIXELS = ("Corrupt JPEG data", "Inconsistent progression sequence")
_LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
#: Different bytes among those that a camera pads the pixels with, up to the marker of the end.
#: Pixels that were decoded at the wrong place leave bytes of any value.
_PADDING = 2
_END = b"\xff\xd9"
_FIRST_SCAN = b"\xff\xda"
# JPEG markers (ITU-T T.81, table B.1)
_APP0 = 0xE0
_APP15 = 0xEF
_COMMENT = 0xFE
_SCAN = 0xDA
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


def damage(look: Look, kind: str, is_decoded: bool) -> str:
    """Say by which sign an encoded file is damaged, although it can be read; "" without a sign.

    Args:
        look: The look at the encoded file.
        kind: Pillow's name of the file format.
        is_decoded: Whether the serving op decodes the file, so that only Pillow may do so.
    """
    if kind == "JPEG":
        return _damage_of_jpeg(look.data)
    if kind == "PNG" and not is_decoded:
        return error_of_pillow(look.data, lambda image: image.verify())
    if kind == "GIF" and is_decoded:
        return error_of_pillow(look.data, lambda image: image.load())
    return ""


def _damage_of_jpeg(data: bytes) -> str:
    if not _warning_of_libjpeg(data):
        return ""
    # Without a marker of the end, libjpeg's last warning is of that and not of the pixels.
    pixels = _without_metadata(data) + _END
    said = _warning_of_libjpeg(pixels)
    if not said.startswith(_WRONG_PIXELS) or _is_padding(pixels, said):
        return ""
    return f"libjpeg: {said}"


def _warning_of_libjpeg(data: bytes) -> str:
    """Return the last warning or the error of libjpeg, "" if there is none."""
    try:
        # An eighth of each side in grey: all pixels are read, and few are computed.
        simplejpeg.decode_jpeg(
            data, "GRAY", fastdct=True, fastupsample=True, min_height=1, min_width=1
        )
    except (ValueError, MemoryError) as error:
        return str(error)
    return ""


def _without_metadata(data: bytes) -> bytes:
    """Return a JPEG without application segments and comments, and without what follows them.

    Programs write them with wrong lengths and contents, of which libjpeg warns. The pixels do not
    depend on them.
    """
    parts = [data[:2]]
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _SCAN:
        marker = data[at + 1]
        after = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if _APP0 <= marker <= _APP15 or marker == _COMMENT:
            following = re.compile(b"\xff[\xc0-\xfe]").search(data, after)
            after = following.start() if following else len(data)
        else:
            parts.append(data[at:after])
        at = after
    return b"".join((*parts, data[at:]))


def _is_padding(data: bytes, said: str) -> bool:
    """Return whether libjpeg only warns of bytes that fill the space before the end."""
    left_over = _LEFT_OVER.search(said)
    if left_over is None:
        return False
    end = data.find(_END, max(data.find(_FIRST_SCAN), 0))
    return len(set(data[max(end - int(left_over[1]), 0) : end])) <= _PADDING


class Unread(NamedTuple):
    """What is said of a file that nobody reads."""

    reason: str
    why: str
    remedy: str = ""  # what to do, if it is not to save or download the image again


def unread(look: Look, header: Header, said: str) -> Unread:
    """Return what is said of a file that nobody reads. The name of the file is not asked.

    Args:
        look: The look at the file.
        header: Its header.
        said: Why Pillow cannot read the file; it reads some files with more bands than are used.
    """
    name, remedy = look.described()
    if header.bands > MOST_BANDS:
        why = f"TIFF with {header.bands} bands; files with at most {MOST_BANDS} are read"
        return Unread(UNDECODABLE, why, _THREE_BANDS)
    if ONLY_PREVIEW in said:
        return Unread(UNDECODABLE, said, _EXPORT_RAW)
    if _CAMERA_RAW.match(look.data):
        return Unread(UNDECODABLE, f"camera raw ({name})", _EXPORT_RAW)
    accepted = converted_formats()
    if look.format or header.format or look.other_format in accepted:
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
