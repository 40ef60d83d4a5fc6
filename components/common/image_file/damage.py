"""Damage of files that decode, found by what the libraries of their formats say.

The serving op passes over libjpeg's warnings, after which pixels are grey or at a wrong place. It
refuses a PNG with a wrong checksum, at which Pillow, which is asked then, does not look. WebP has
no checksums, so signs in its compressed bytes are looked for too.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import simplejpeg

from imgpipe.components.common.image_file.header import pillow
from imgpipe.serving import image_header

#: What libjpeg says when the pixels are wrong (`jerror.h`). Its other warnings are about headers or
#: a missing marker at the end; its errors are about kinds of JPEG that the op may know.
_WRONG_PIXELS = ("Corrupt JPEG data", "Inconsistent progression sequence")
_LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
#: Different bytes among those that a camera pads the pixels with, up to the marker of the end.
#: Pixels that were decoded at the wrong place leave bytes of any value.
_PADDING = 2
#: Zeros in a row among the pixels of a lossy WebP from which a block of a disk or of a transfer is
#: missing, and pixels for which one more is allowed: plain areas have one for 10,000 at most.
_ZEROS = 64
_PLAIN_PIXELS = 2000
#: Converted newlines from which chance is excluded: one byte of 256 is a newline by itself.
_NEWLINES = 4
_END = b"\xff\xd9"
_FIRST_SCAN = b"\xff\xda"
# JPEG markers (ITU-T T.81, table B.1)
_APP0 = 0xE0
_APP15 = 0xEF
_COMMENT = 0xFE
_SCAN = 0xDA


def damage(data: bytes, kind: str, is_decoded: bool) -> str:
    """Say by which sign an encoded file is damaged, although it can be read; "" without a sign.

    Args:
        data: The encoded file.
        kind: Pillow's name of the file format.
        is_decoded: Whether the serving op decodes the file, so that only Pillow may do so.
    """
    if kind == "JPEG":
        said = _jpeg(data)
        newlines = _converted_newlines(data[max(data.find(_FIRST_SCAN), 0) :]) if said else ""
        return ", ".join(part for part in (said, newlines) if part)
    if kind == "PNG":
        return "" if is_decoded else _pillow(data, lambda image: image.verify())
    if kind == "WEBP":
        return _webp(data)
    if kind == "GIF":
        return _pillow(data, lambda image: image.load()) if is_decoded else ""
    if kind == "BMP":  # the op has compared its length with its header
        return "" if is_decoded else _converted_newlines(data) or _added(data, _bmp_size(data))
    return ""


def _pillow(data: bytes, read: Callable[..., object]) -> str:
    """Return Pillow's error when it reads a file, "" if there is none."""
    try:
        with pillow(data) as image:
            read(image)
    except MemoryError:
        return ""
    except Exception as error:  # Pillow's plugins raise exceptions of any type for broken files
        return f"Pillow: {error}"
    return ""


def _jpeg(data: bytes) -> str:
    if not _libjpeg(data):
        return ""
    # Without a marker of the end, libjpeg's last warning is of that and not of the pixels.
    pixels = _without_metadata(data) + _END
    said = _libjpeg(pixels)
    if not said.startswith(_WRONG_PIXELS) or _is_padding(pixels, said):
        return ""
    return f"libjpeg: {said}"


def _libjpeg(data: bytes) -> str:
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


def _webp(data: bytes) -> str:
    """Look into the first chunk of pixels (RFC 9649); its decoder has no means to notice damage."""
    chunk = re.compile(b"VP8([ L])(....)", re.DOTALL).search(data, 12)
    if chunk is None:
        return ""
    pixels = data[chunk.end() : chunk.end() + int.from_bytes(chunk[2], "little")]
    width, height = image_header.size(data)
    zeros = _ZEROS + width * height // _PLAIN_PIXELS
    if chunk[1] == b" " and bytes(zeros) in pixels:
        return f"at least {zeros:,} zeros in a row among the compressed pixels"
    converted = _converted_newlines(pixels)
    if converted:
        return converted
    return _added(data, int.from_bytes(data[4:8], "little") + 8)


def _bmp_size(data: bytes) -> int:
    """Return the length of a BMP file, if its header and its size in pixels agree on it, or 0."""
    declared, offset, bits = (
        int.from_bytes(data[start:end], "little") for start, end in ((2, 6), (10, 14), (28, 30))
    )
    width, height = image_header.size(data)
    row = (width * bits + 31) // 32 * 4
    return declared if declared == offset + row * height else 0


def _added(data: bytes, size: int) -> str:
    """Say that a file is longer than its header says, unless it is padded or `size` is 0.

    Bytes that were added between the pixels move the last pixels there.
    """
    added = data[size:] if size else b""
    if len(set(added)) <= _PADDING:
        return ""
    return f"the file is {len(added):,} bytes longer than its header says"


def _converted_newlines(data: bytes) -> str:
    newlines = data.count(b"\n")
    if newlines < _NEWLINES or newlines != data.count(b"\r\n"):
        return ""
    return (
        f"each of the {newlines:,} newline bytes follows a carriage return, as after a transfer "
        "as text"
    )
