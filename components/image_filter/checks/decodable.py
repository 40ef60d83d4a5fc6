"""Files that the serving op cannot decode: transcoded when Pillow can read them, else rejected.

A file is good only if the op that serves it can decode it. `not_an_image`, `truncated` and
`undecodable` come from here, and so does the repair `transcoded` (PNG, without loss).
"""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image, UnidentifiedImageError

from imgpipe.components.image_file.header import other_format, pillow, sniff
from imgpipe.components.image_filter.check import Check, Choice, Finding, Settings
from imgpipe.components.image_record import ImageRecord

NOT_AN_IMAGE = "not_an_image"
TRUNCATED = "truncated"
UNDECODABLE = "undecodable"
TRANSCODED = "transcoded"
_TAIL = 64  # bytes at the end that may hold padding after the end marker


def judge(record: ImageRecord, settings: Settings) -> Finding | None:
    """Repair files that only Pillow reads, and reject those that nothing reads, by their kind."""
    if not record.decode_error:
        return None
    found = record.image_bytes
    try:
        data, described = transcode(found)
    except UnidentifiedImageError:
        problem = "no image format known"
    except Exception as error:  # Pillow's plugins raise anything on broken bytes
        problem = str(error) or type(error).__name__
    else:
        if settings.severity.get(TRANSCODED) == "reject":
            return Finding(UNDECODABLE, f"{described} read by Pillow alone; {record.decode_error}")
        detail = f"{described} read by Pillow alone, stored as PNG; {record.decode_error}"
        return Finding(TRANSCODED, detail, "repair", repaired=data)
    detail = f"{record.decode_error} Pillow: {problem}."
    if not sniff(found) and not record.format:
        if other := other_format(found):
            return Finding(UNDECODABLE, f"{other}, a format that is not accepted")
        return Finding(NOT_AN_IMAGE, f"no image format known; it begins with {_head(found)}")
    if is_cut_short(found) or "truncated" in problem or "unexpected end" in problem.lower():
        return Finding(TRUNCATED, detail)
    return Finding(UNDECODABLE, detail)


def transcode(data: bytes) -> tuple[bytes, str]:
    """The image as PNG (RGB, 8 bits) and a description of the original; raises what Pillow does."""
    with pillow(data) as image:
        described = f"{image.format} ({image.mode})"
        image.load()
        plain = _sixteen_to_eight(image) if image.mode.startswith("I") else image.convert("RGB")
    out = io.BytesIO()
    plain.save(out, format="PNG")
    return out.getvalue(), described


def _sixteen_to_eight(image: Image.Image) -> Image.Image:
    """RGB of 8 bits from grey of 16, as the serving op reduces 16-bit PNG; Pillow would clip."""
    grey = np.asarray(image).astype(np.int64).clip(0, 65535) >> 8
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def is_cut_short(data: bytes) -> bool:
    """Whether the file ends before its format says that it does."""
    kind = sniff(data)
    if kind == "JPEG":
        return b"\xff\xd9" not in data[-_TAIL:]
    if kind == "PNG":
        return b"IEND" not in data[-_TAIL:]
    if kind == "GIF":
        return not data.rstrip(b"\0").endswith(b";")
    try:
        if kind == "BMP":
            return struct.unpack("<I", data[2:6])[0] > len(data)
        if kind == "WEBP":
            return struct.unpack("<I", data[4:8])[0] + 8 > len(data)
    except struct.error:
        return True
    return False


def _head(data: bytes) -> str:
    """The first bytes, as text when they are printable, else in hexadecimal."""
    head = data[:24]
    return repr(head.decode()) if head.isascii() and head.decode().isprintable() else head.hex(" ")


CHECK = Check(
    "decodable",
    40,
    "header",
    judge,
    "save the image again as JPEG or PNG, or fetch the original",
    unusable=(NOT_AN_IMAGE, TRUNCATED, UNDECODABLE),
    choices={
        TRANSCODED: Choice(
            "repair", ("repair", "reject"), "Read by Pillow alone; repair: stored as PNG"
        )
    },
)
