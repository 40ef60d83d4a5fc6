"""The formats of images that are read, how their headers are followed, and how far.

Python follows each of them alone. Files with very many are made to take time.

These are JPEG, PNG, GIF, BMP and WebP; JPEG XL is refused. No memory is allocated for pixels.

Whatever the bytes are, the time is linear in their number, and a header is looked for only where a
header can be.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

MOST_PARTS = 300_000
"""Parts of a file that are followed, except in large GIFs; see `LEAST_PART`."""
LEAST_PART = 200
"""Mean size in bytes of the parts of a GIF from which any number of them is followed. Those that an
encoder writes have 255 bytes."""
MAX_SCANS = 100
"""Scans of a JPEG, in each of which a decoder may read all pixels. Encoders write about ten."""
MAX_EXPANDED_BYTES = 4 << 20
"""Size of all compressed texts and profiles of a PNG, which decoders expand and keep."""
MAX_COMMENT_BYTES = 1 << 16
"""Size of all comments of a GIF. Pillow takes a time that is quadratic in it."""
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG frame headers. C4, C8 and CC are in their range, but mark tables."""
_STANDALONE = frozenset([0x01, *range(0xD0, 0xD9)])
"""JPEG markers that no length follows (ITU-T T.81, table B.1)."""
_SOS, _EOI = 0xDA, 0xD9
_VP8L_SIGNATURE = 0x2F
_GIF_IMAGE, _GIF_EXTENSION, _GIF_COMMENT = 0x2C, 0x21, 0xFE
_MARKER = re.compile(b"\xff[^\x00\xff]", re.DOTALL)
"""The last fill byte and the code of a JPEG marker. The pixels have a zero after each 255."""
_FRAME = re.compile(b"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]")
"""What may be the marker of a frame header, which the set `_SOF` lists."""
_MOST_SEGMENTS = 10_000
"""Segments before the frame header of a JPEG that are followed. A preview of 10 MB has 160."""
_HEADER_REACH = 1 << 16
"""Bytes in no segment that are skipped before the frame header of a JPEG. Cameras write none, and
programs a few when they remove a segment."""
_COMPRESSED = {
    b"zTXt": re.compile(b"[^\0]*\0.", re.DOTALL),
    b"iCCP": re.compile(b"[^\0]*\0.", re.DOTALL),
    b"iTXt": re.compile(b"[^\0]*\0\x01.[^\0]*\0[^\0]*\0", re.DOTALL),
}
"""PNG chunks with compressed content, and what precedes it (PNG 3rd edition, 11.3)."""
_EXPANDED_AT_ONCE = 1 << 20
_TAIL = 64
"""Bytes at the end of a file that may contain padding after the end marker."""
JXL = "JXL"


class NotFollowed(Exception):
    """A file goes on further than it is read, for the reason in the message."""


class TooManyParts(NotFollowed):
    """A file has more parts than are followed.

    Args:
        most: Number of parts that are followed.
    """

    def __init__(self, most: int) -> None:
        super().__init__(f"more than {most:,} parts")


def followed(most: int) -> Iterator[None]:
    """Yield once for each of the parts of a file that may be followed.

    Raises:
        TooManyParts: There are more than `most`.
    """
    for _ in range(most):
        yield
    raise TooManyParts(most)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each chunk of a PNG, where its content begins, and its length."""
    at = 8
    for _ in followed(MOST_PARTS):
        if at + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, at + 8, length
        at += 12 + length


def _png(data: bytes) -> tuple[int, int]:
    """Read the header, which libpng finds behind other chunks, too."""
    begin = next((begin for kind, begin, _ in _chunks(data) if kind == b"IHDR"), len(data))
    return struct.unpack_from(">II", data, begin)


def _png_cost(data: bytes) -> str:
    """Expand the compressed texts and profiles, up to the limit."""
    total = 0
    for kind, begin, length in _chunks(data):
        if kind in _COMPRESSED:
            content = data[begin : begin + length]
            if before := _COMPRESSED[kind].match(content):
                total += _expanded(content[before.end() :], MAX_EXPANDED_BYTES - total)
        if total > MAX_EXPANDED_BYTES:
            return f"compressed texts or profiles of more than {MAX_EXPANDED_BYTES >> 20} MiB"
        if kind == b"IEND":
            break
    return ""


def _expanded(content: bytes, most: int) -> int:
    """Return the size of compressed bytes, of which no more than about `most` are expanded."""
    stream = zlib.decompressobj()
    size = 0
    try:
        while content and not stream.eof and size <= most:
            size += len(stream.decompress(content, _EXPANDED_AT_ONCE))
            content = stream.unconsumed_tail
    except zlib.error:  # decoders ignore the rest too
        pass
    return size


def _segments(data: bytes, most: int, reach: int) -> Iterator[tuple[int, int]]:
    """Yield up to `most` markers of a JPEG up to its end, and where their lengths are.

    At most `reach` other bytes, such as the pixels of a scan, are skipped to find the next one.
    """
    at = 2
    for _ in followed(most):
        end = min(at + reach, len(data))
        match = _MARKER.search(data, at, end + 1)  # one byte more, for a marker that begins there
        # Decoders skip any number of bytes, and then allocate what the header asks for.
        if match is None and _FRAME.search(data, end):
            raise NotFollowed(
                f"a frame header behind more than {reach:,} bytes that belong to nothing"
            )
        if match is None:
            return
        marker = match[0][1]
        if marker == _EOI:
            return
        at = match.end()
        if marker not in _STANDALONE:
            yield marker, at
            at += max(int.from_bytes(data[at : at + 2], "big"), 2)


def _jpeg(data: bytes) -> tuple[int, int]:
    """Return the largest size in a frame header before the scan."""
    largest = (0, 0)
    for marker, at in _segments(data, _MOST_SEGMENTS, _HEADER_REACH):
        if marker == _SOS:
            break
        if marker in _SOF:
            height, width = struct.unpack_from(">HH", data, at + 3)
            largest = max(largest, (width, height), key=lambda sides: sides[0] * sides[1])
    return largest


def _jpeg_cost(data: bytes) -> str:
    """Count the scans before the end, and look for the frame header.

    The search for their markers is fast, but also finds those in a preview or after the image. Only
    if it finds many, the segments are followed.
    """
    scans = data.count(b"\xff\xda")
    if scans > MAX_SCANS:
        scans = sum(kind == _SOS for kind, _ in _segments(data, MOST_PARTS, len(data)))
    if scans > MAX_SCANS:
        return f"{scans:,} scans, more than {MAX_SCANS}"
    _jpeg(data)
    return ""


def _gif_canvas(data: bytes) -> tuple[int, int]:
    return struct.unpack_from("<HH", data, 6)


def _has_no_trailer(data: bytes) -> bool:
    return not data.rstrip(b"\0").endswith(b";")


def _colour_table_bytes(flags: int) -> int:
    """Return the size of the colour table of a GIF, or of one of its images, by its flags."""
    has_table = flags & 0x80
    return 3 << ((flags & 7) + 1) if has_table else 0


def _gif_blocks(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the extensions and images of a GIF: first byte, where it begins, and where it ends."""
    (flags,) = struct.unpack_from("<B", data, 10)
    # 6 bytes of signature, 7 of the screen descriptor, and the global colour table if there is one.
    at = 13 + _colour_table_bytes(flags)
    parts = followed(max(MOST_PARTS, len(data) // LEAST_PART))
    while at < len(data):
        begin = at
        kind = data[at]
        if kind == _GIF_IMAGE:
            local = data[at + 9]
            # The descriptor, its colour table, and a byte for the code size of LZW.
            at += 10 + _colour_table_bytes(local) + 1
        elif kind == _GIF_EXTENSION:
            at += 2
        else:
            return
        while at < len(data) and data[at]:  # sub-blocks
            at += 1 + data[at]
            next(parts)
        at += 1
        next(parts)
        yield kind, begin, at


def gif_frames(data: bytes) -> int:
    """Return the pixels of all frames, because the decoder reads each of them into memory."""
    total = 0
    for kind, begin, _ in _gif_blocks(data):
        if kind == _GIF_IMAGE:
            width, height = struct.unpack_from("<HH", data, begin + 5)
            total += width * height
    return total


def _gif_cost(data: bytes) -> str:
    """Add up the comments, which Pillow appends to each other."""
    total = sum(
        end - begin
        for kind, begin, end in _gif_blocks(data)
        if kind == _GIF_EXTENSION and data[begin + 1] == _GIF_COMMENT
    )
    return f"comments of more than {MAX_COMMENT_BYTES >> 10} KiB" * (total > MAX_COMMENT_BYTES)


def _bmp(data: bytes) -> tuple[int, int]:
    if struct.unpack_from("<I", data, 14)[0] == 12:  # the old header, whose sizes have 16 bits
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    # A negative height means that the rows begin at the top.
    return abs(width), abs(height)


def _webp(data: bytes) -> tuple[int, int]:
    """Read the first chunk of a WebP file (RFC 9649), or an image that stands there without one."""
    kind = data[12:16]
    if kind == b"VP8X":
        low_w, high_w, low_h, high_h = struct.unpack_from("<HBHB", data, 24)
        return 1 + low_w + (high_w << 16), 1 + low_h + (high_h << 16)
    at = 20 if kind in (b"VP8 ", b"VP8L") else 12
    if kind == b"VP8L" or (at == 12 and data[at] == _VP8L_SIGNATURE):
        (bits,) = struct.unpack_from("<I", data, at + 1)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    # The upper two bits of each side ask for scaling, which does not change the decoded size
    # (RFC 6386, section 9.1).
    width, height = struct.unpack_from("<HH", data, at + 6)
    return width & 0x3FFF, height & 0x3FFF


def _lacks(mark: bytes) -> Callable[[bytes], bool]:
    return lambda data: mark not in data[-_TAIL:]


def _is_shorter(at: int, not_counted: int = 0) -> Callable[[bytes], bool]:
    """Compare with the size that is stored in the header."""
    return lambda data: struct.unpack_from("<I", data, at)[0] + not_counted > len(data)


class Format(NamedTuple):
    """How a format is recognised and read; the functions may raise `struct.error`."""

    name: str
    in_words: str = ""
    magic: bytes = b""
    size: Callable[[bytes], tuple[int, int]] = lambda data: (0, 0)
    is_cut_short: Callable[[bytes], bool] = lambda data: False
    hidden_cost: Callable[[bytes], str] = lambda data: ""


FORMATS = (
    # The marker EOI (ITU-T T.81, B.1.1.3), the last chunk, and the trailer 0x3B (GIF89a, 27).
    Format("JPEG", "JPEG", rb"\xff\xd8\xff", _jpeg, _lacks(b"\xff\xd9"), _jpeg_cost),
    Format("PNG", "PNG", rb"\x89PNG\r\n\x1a\n", _png, _lacks(b"IEND"), _png_cost),
    Format("GIF", "GIF", rb"GIF8", _gif_canvas, _has_no_trailer, _gif_cost),
    Format("BMP", "BMP", rb"BM", _bmp, _is_shorter(2)),
    Format("WEBP", "WebP", rb"RIFF.{4}WEBP", _webp, _is_shorter(4, not_counted=8)),
    # Its decoder allocates the pixels that a header of variable bits asks for, so it is refused.
    Format(JXL, "JPEG XL", rb"\xff\x0a|\x00\x00\x00\x0cJXL \r\n\x87\n"),
)
