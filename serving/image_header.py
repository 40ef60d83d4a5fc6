"""The format, the size and the hidden cost of an encoded image, without decoding its pixels.

All formats that `tf.io.decode_image` reads are known: PNG, JPEG, GIF, BMP, WebP and JPEG XL. No
memory is allocated for pixels. The server and the inspection of images share this module.

Whatever the bytes are, the time is linear in their number, and a header is looked for only where a
header can be.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator

from imgpipe.serving.image_parts import LEAST_PART, MOST_PARTS, TooManyParts, followed

MAX_SCANS = 100
"""Scans of a JPEG, in each of which a decoder may read all pixels. Encoders write about ten."""
MAX_EXPANDED_BYTES = 4 << 20
"""Size of all compressed texts and profiles of a PNG, which decoders expand and keep."""
MAX_COMMENT_BYTES = 1 << 16
"""Size of all comments of a GIF. Pillow takes a time that is quadratic in it."""

_JXL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""Ratios of width to height for the values 1 to 7 of the ratio field of a JPEG XL size header."""
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
_AT_ONCE = 1 << 20
"""Bytes that are searched without a pause for other threads: up to 10 ms."""
_COMPRESSED = {
    b"zTXt": re.compile(b"[^\0]*\0.", re.DOTALL),
    b"iCCP": re.compile(b"[^\0]*\0.", re.DOTALL),
    b"iTXt": re.compile(b"[^\0]*\0\x01.[^\0]*\0[^\0]*\0", re.DOTALL),
}
"""PNG chunks with compressed content, and what precedes it (PNG 3rd edition, 11.3)."""
_EXPANDED_AT_ONCE = 1 << 20
_UNKNOWN = (1 << 16) - 1
"""Width and height of a file with too many parts, which is over every limit of pixels."""
UNKNOWN_PIXELS = _UNKNOWN * _UNKNOWN


class _OutOfReach(Exception):
    """The frame header of a JPEG is further than it is looked for, where decoders may find it."""


def sniff(data: bytes) -> str:
    """Return the format by which `tf.io.decode_image` recognises the first bytes; "" for none."""
    name = next((name for magic, name in _MAGIC if data.startswith(magic)), "")
    return "" if name == "WEBP" and data[8:12] != b"WEBP" else name


def size(data: bytes) -> tuple[int, int]:
    """Return (width, height) of an encoded image; (0, 0) if the header cannot be read.

    Of an animation this is the size of the canvas.
    """
    try:
        name = sniff(data)
        return _READERS[name](data) if name else (0, 0)
    except (struct.error, IndexError):
        return 0, 0
    except TooManyParts:
        return _UNKNOWN, _UNKNOWN
    except _OutOfReach:
        return 0, 0


def pixels(data: bytes) -> int | None:
    """Return the number of pixels that an encoded image is decoded to.

    Args:
        data: The encoded image.

    Returns:
        Width times height, for a GIF the sum over all frames; None if the header cannot be read.
    """
    width, height = size(data)
    if sniff(data) == "GIF":
        try:
            return max(_gif_frames(data), width * height)
        except (struct.error, IndexError):
            return None
        except TooManyParts:
            return UNKNOWN_PIXELS
    return width * height or None


def hidden_cost(data: bytes) -> str:
    """Say why an encoded image costs much more than its number of pixels tells; "" if it does not.

    A PNG of one pixel and some kilobytes can take gigabytes of memory, and a JPEG of less than a
    kilobyte many seconds.
    """
    kind = sniff(data)
    try:
        if kind == "PNG" and _png_expanded(data) > MAX_EXPANDED_BYTES:
            most = MAX_EXPANDED_BYTES >> 20
            return f"compressed texts or profiles of more than {most} MiB"
        if kind == "GIF" and _gif_comments(data) > MAX_COMMENT_BYTES:
            return f"comments of more than {MAX_COMMENT_BYTES >> 10} KiB"
        # To count the bytes is fast, but they may also be in a preview or after the image.
        if kind == "JPEG" and _starts_of_scans(data) > MAX_SCANS:
            scans = sum(marker == _SOS for marker, _ in _segments(data, MOST_PARTS, len(data)))
            return f"{scans:,} scans, more than {MAX_SCANS}" if scans > MAX_SCANS else ""
        if kind == "JPEG":
            _jpeg(data)
    except (struct.error, IndexError):  # the decoder refuses a file that ends within a header
        return ""
    except TooManyParts as error:
        return str(error)
    except _OutOfReach:
        return f"a frame header behind more than {_HEADER_REACH:,} bytes that belong to nothing"
    return ""


def _png(data: bytes) -> tuple[int, int]:
    """Read the header, which libpng finds behind other chunks, too."""
    at = 8
    parts = followed(MOST_PARTS)
    while True:
        next(parts)
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IHDR":
            return struct.unpack_from(">II", data, at + 8)
        at += 12 + length


def _png_expanded(data: bytes) -> int:
    """Return the total size of the compressed texts and profiles, or a size above the limit."""
    total = 0
    at = 8
    for _ in followed(MOST_PARTS):
        if at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind in _COMPRESSED:
            content = data[at + 8 : at + 8 + length]
            if before := _COMPRESSED[kind].match(content):
                total += _expanded(content[before.end() :], MAX_EXPANDED_BYTES - total)
        if total > MAX_EXPANDED_BYTES or kind == b"IEND":
            break
        at += 12 + length
    return total


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


def _starts_of_scans(data: bytes) -> int:
    """Count the bytes that mark a scan of a JPEG, wherever they are."""
    mark = b"\xff\xda"
    return sum(
        data.count(mark, begin, begin + _AT_ONCE + 1) for begin in range(0, len(data), _AT_ONCE)
    )


def _segments(data: bytes, most: int, reach: int) -> Iterator[tuple[int, int]]:
    """Yield the markers of a JPEG up to its end and where their lengths are.

    Args:
        data: The encoded image.
        most: Number of markers that are followed.
        reach: Number of other bytes, such as the pixels after a marker of a scan, that are skipped
            to find the next marker.
    """
    at = 2
    for _ in followed(most):
        end = min(at + reach, len(data))
        match = _find(_MARKER, data, at, end)
        # Decoders skip any number of bytes, and then allocate what the header asks for.
        if match is None and _find(_FRAME, data, end, len(data)):
            raise _OutOfReach
        if match is None:
            return
        marker = match[0][1]
        if marker == _EOI:
            return
        at = match.end()
        if marker not in _STANDALONE:
            yield marker, at
            at += max(struct.unpack_from(">H", data, at)[0], 2)


def _find(pattern: re.Pattern[bytes], data: bytes, begin: int, end: int) -> re.Match[bytes] | None:
    """Find two bytes of which the first is between two places."""
    for start in range(begin, end, _AT_ONCE):
        # One byte more, because the two may be divided.
        match = pattern.search(data, start, min(start + _AT_ONCE, end) + 1)
        if match:
            return match
    return None


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


def _gif(data: bytes) -> tuple[int, int]:
    return struct.unpack_from("<HH", data, 6)


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


def _gif_frames(data: bytes) -> int:
    """Return the pixels of all frames, because the decoder reads each of them into memory."""
    total = 0
    for kind, begin, _ in _gif_blocks(data):
        if kind == _GIF_IMAGE:
            width, height = struct.unpack_from("<HH", data, begin + 5)
            total += width * height
    return total


def _gif_comments(data: bytes) -> int:
    """Return the size of all comments, which Pillow appends to each other."""
    return sum(
        end - begin
        for kind, begin, end in _gif_blocks(data)
        if kind == _GIF_EXTENSION and data[begin + 1] == _GIF_COMMENT
    )


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


def _jxl(data: bytes) -> tuple[int, int]:
    """Read the size header of a bare JPEG XL codestream."""
    # The fields follow the signature FF 0A, and are read from the lowest bit on.
    bits = int.from_bytes(data[2:16], "little")
    at = 0

    def take(count: int) -> int:
        nonlocal at
        value = bits >> at & ((1 << count) - 1)
        at += count
        return value

    small = take(1)

    def side() -> int:
        if small:
            return (take(5) + 1) * 8
        return take((9, 13, 18, 30)[take(2)]) + 1  # two bits choose the number of bits

    height = side()
    ratio = take(3)
    if not ratio:
        return side(), height
    across, down = _JXL_RATIOS[ratio - 1]
    return height * across // down, height


def _jxl_boxed(data: bytes) -> tuple[int, int]:
    """Read the size header of the codestream inside the ISO boxes of a JPEG XL file."""
    at = 0
    for _ in followed(MOST_PARTS):
        if at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        header = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, at + 8)
            header = 16
        if kind in (b"jxlc", b"jxlp"):
            start = at + header + (4 if kind == b"jxlp" else 0)
            return _jxl(data[start : start + 16])
        if length < header:
            break
        at += length
    return 0, 0


_READERS: dict[str, Callable[[bytes], tuple[int, int]]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "GIF": _gif,
    "BMP": _bmp,
    "WEBP": _webp,
    "JXL": lambda data: (_jxl if data[0] else _jxl_boxed)(data),
}
_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"RIFF", "WEBP"),
    (b"\xff\x0a", "JXL"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JXL"),
)
