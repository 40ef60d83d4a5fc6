"""Files that the serving operation cannot decode.

They are transcoded to PNG without loss if Pillow can read them (the repair `transcoded`), and
otherwise rejected as `not_an_image`, `truncated` or `undecodable`.
"""

from __future__ import annotations

from PIL import UnidentifiedImageError

from imgpipe.components.common.image_file.header import HEIC_REMEDY, converted_formats
from imgpipe.components.common.image_file.transcoding import transcode
from imgpipe.components.common.image_record import ImageRecord
from imgpipe.components.image_filter.check import Finding, JudgeSettings, Result, check
from imgpipe.serving.image_header import sniff
from imgpipe.serving.refused_image import HEIC, is_cut_short, other_format

NOT_AN_IMAGE = "not_an_image"
TRUNCATED = "truncated"
UNDECODABLE = "undecodable"
TRANSCODED = "transcoded"


@check(
    "header",
    "save the image again as JPEG or PNG, or download the original again",
    unusable=(NOT_AN_IMAGE, TRUNCATED, UNDECODABLE),
)
def decodable(record: ImageRecord, settings: JudgeSettings) -> Result:
    """Files that nobody reads, and those that only Pillow reads."""
    why = record.content.decode_error
    if not why:
        return None
    data = record.image_bytes
    try:
        png, described = transcode(data)
    except UnidentifiedImageError:
        problem = "unknown image format"
    except Exception as error:  # Pillow's plugins raise exceptions of any type for broken files
        problem = str(error) or type(error).__name__
    else:
        detail = f"{described}, which the served model does not decode, is stored as PNG"
        return Finding(TRANSCODED, detail, "repair", repaired=png)
    detail = f"{why.split('. ')[0].removesuffix('.')}. Pillow: {problem}."
    if not sniff(data) and not record.content.format:
        other = other_format(data)
        if other and other not in converted_formats():
            remedy = "; ".join(HEIC_REMEDY) if other == HEIC else ""
            return Finding(UNDECODABLE, f"{other}, a format that is not accepted", remedy=remedy)
        # The signature of PNG has newlines of both kinds for this purpose (PNG 3rd edition, 5.2).
        is_png = data.startswith(b"\x89PNG")
        about = "PNG whose newlines were converted" if is_png else "unknown image format"
        return Finding(NOT_AN_IMAGE, f"{about}; it begins with {_head(data)}")
    if is_cut_short(data) or "truncated" in problem or "unexpected end" in problem.lower():
        return Finding(TRUNCATED, detail)
    return Finding(UNDECODABLE, detail)


def _head(data: bytes) -> str:
    """Return the first bytes as one line of text if they are text, otherwise in hexadecimal."""
    head = data[:24]
    text = " ".join(head.decode("ascii", "replace").split())
    return repr(text) if head.isascii() and text.isprintable() else head.hex(" ")
