"""Reads from the header of an encoded image how many pixels it would decode to.

All formats that ``tf.io.decode_image`` reads are known: PNG, JPEG, GIF, BMP, WebP and JPEG XL.
Nothing is decoded, and no memory is allocated for pixels. An image whose header cannot be read is
left to the decoder, which refuses it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

_JXL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""Ratios of width to height for the values 1 to 7 of the ratio field of a JPEG XL size header."""
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG frame headers. C4, C8 and CC are in their range, but mark tables."""
_STANDALONE = frozenset([0x01, *range(0xD0, 0xD9)])
"""JPEG markers that no length follows."""
_SOS, _EOI = 0xDA, 0xD9


def pixels(data: bytes) -> int | None:
    """Return the number of pixels of an encoded image.

    Args:
        data: The encoded image.

    Returns:
        Width times height, for a GIF the sum over all frames; None if the header cannot be read.
    """
    for magic, read in _FORMATS:
        if data.startswith(magic):
            try:
                return read(data)
            except (struct.error, IndexError):
                return None
    return None


def _png(data: bytes) -> int:
    width, height = struct.unpack_from(">II", data, 16)
    return width * height


def _jpeg(data: bytes) -> int | None:
    """Return the largest size in a frame header before the scan; other bytes are skipped."""
    at, largest = 2, None
    while at < len(data):
        at = data.find(b"\xff", at)
        if at < 0:
            break
        while data[at] == 0xFF:  # fill bytes
            at += 1
        marker = data[at]
        at += 1
        if marker in (_SOS, _EOI):
            break
        if marker == 0 or marker in _STANDALONE:
            continue
        (length,) = struct.unpack_from(">H", data, at)
        if marker in _SOF:
            height, width = struct.unpack_from(">HH", data, at + 3)
            largest = max(largest or 0, width * height)
        at += max(length, 2)
    return largest


def _gif(data: bytes) -> int:
    """Return the sum over all frames, because the decoder reads each of them into memory."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    total, screen = 0, width * height
    at = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    while at < len(data):
        kind = data[at]
        if kind == 0x2C:  # image descriptor
            frame_width, frame_height, local = struct.unpack_from("<HHB", data, at + 5)
            total += frame_width * frame_height
            at += 10 + (3 << ((local & 7) + 1) if local & 0x80 else 0) + 1
        elif kind == 0x21:  # extension
            at += 2
        else:
            break
        while at < len(data) and data[at]:  # sub-blocks
            at += 1 + data[at]
        at += 1
    return max(total, screen)


def _bmp(data: bytes) -> int:
    if struct.unpack_from("<I", data, 14)[0] == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return abs(width) * abs(height)


def _webp(data: bytes) -> int | None:
    kind = data[12:16]
    if data[8:12] != b"WEBP":
        return None
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", data, 26))
    return width * height


def _jxl(data: bytes) -> int:
    """Read the size header of a bare JPEG XL codestream."""
    bits, at = int.from_bytes(data[2:16], "little"), 0

    def take(count: int) -> int:
        nonlocal at
        value = bits >> at & ((1 << count) - 1)
        at += count
        return value

    small = take(1)

    def side() -> int:
        if small:
            return (take(5) + 1) * 8
        return take((9, 13, 18, 30)[take(2)]) + 1

    height = side()
    ratio = take(3)
    if not ratio:
        return height * side()
    across, down = _JXL_RATIOS[ratio - 1]
    return height * (height * across // down)


def _jxl_boxed(data: bytes) -> int | None:
    """Read the size header of the codestream inside the ISO boxes of a JPEG XL file."""
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        header = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, at + 8)
            header = 16
        if kind in (b"jxlc", b"jxlp"):
            start = at + header + (4 if kind == b"jxlp" else 0)
            return _jxl(data[start : start + 16])
        if length < header:
            return None
        at += length
    return None


_FORMATS: tuple[tuple[bytes, Callable[[bytes], int | None]], ...] = (
    (b"\xff\xd8\xff", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"GIF8", _gif),
    (b"BM", _bmp),
    (b"RIFF", _webp),
    (b"\xff\x0a", _jxl),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", _jxl_boxed),
)
