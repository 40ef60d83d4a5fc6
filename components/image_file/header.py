"""What a file's header says, read with Pillow and without decoding a pixel.

The size is known before any decoder allocates for it, so that a pixel bomb never goes off.
TensorFlow tells formats apart by their first bytes, Pillow by its plugins; where the two read a
different size (a file that is valid in two formats), the larger one counts.
"""

from __future__ import annotations

import contextlib
import functools
import io
import struct
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import ExifTags, Image, UnidentifiedImageError

_PNG = b"\x89PNG\r\n\x1a\n"
#: First bytes that name an image format to the serving op.
_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (_PNG, "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
)
#: Camera files with a second image for previews: JPEG to every reader, and not an animation.
_SAME_AS_JPEG = {"MPO"}
#: The plugins asked. Left out on purpose: EPS (its reader starts Ghostscript), ICO and ICNS (theirs
#: decode the image inside while opening, before its size is known) and formats without a mark of
#: their own, which take any bytes for an image.
PILLOW_FORMATS = (
    *("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "AVIF"),
    *("TIFF", "JPEG2000", "PPM", "PCX", "SGI", "QOI"),
)
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"hevc", b"mif1", b"msf1"}
_TGA_END = b"TRUEVISION-XFILE.\0"
#: Length of the name, palette or none, kind, palette (start, entries, bits), size, bits a pixel.
_TGA_HEADER = struct.Struct("<BBBHHB4xHHBx")
_OS2_HEADER = struct.pack("<I", 12)  # length of the old BMP header, whose sizes have 16 bits
_WITH_EXIF = {"JPEG", "WEBP", "TIFF"}  # formats where asking for Exif decodes nothing
_PALETTE_CHANNELS = {"P": 3, "PA": 4}
_JPEG_ALONE = frozenset([0x01, *range(0xD0, 0xD9)])  # markers without a length (T.81, table B.1)
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start of frame: holds the size
_lock = threading.Lock()  # Pillow's limit and Python's warning filters belong to the process


@dataclass(frozen=True)
class Header:
    """Pixels, mode and the like; zeros and "" where the header does not say."""

    width: int = 0
    height: int = 0
    channels: int = 0
    format: str = ""
    mode: str = ""
    frames: int = 1
    orientation: int = 1  # Exif: 1 upright, 2–8 mirrored or turned
    error: str = ""  # why Pillow cannot make sense of the header

    @property
    def pixels(self) -> int:
        """Width × height."""
        return self.width * self.height


def sniff(data: bytes) -> str:
    """The format that the first bytes name, as the serving op sees it; "" for none."""
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    return "WEBP" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ""


def _declared_size(data: bytes) -> tuple[int, int]:
    """Width and height where the serving op's decoder looks for them; (0, 0) elsewhere."""
    kind = sniff(data)
    try:
        if kind == "PNG":
            return struct.unpack(">II", data[16:24])
        if kind == "GIF":
            return struct.unpack("<HH", data[6:10])
        if kind == "BMP":
            if data[14:18] == _OS2_HEADER:
                return struct.unpack("<HH", data[18:22])
            width, height = struct.unpack("<ii", data[18:26])
            return abs(width), abs(height)
        if kind == "WEBP":
            return _webp_size(data)
        if kind == "JPEG":
            return _jpeg_size(data)
    except struct.error:
        pass
    return 0, 0


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Size of the first frame (ITU-T T.81, annex B); (0, 0) when the markers lead to none.

    libjpeg reads past markers that Pillow gives up at, such as TEM before the first segment.
    """
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            return 0, 0
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _JPEG_ALONE:
            at += 2
        elif marker in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        else:
            at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    return 0, 0


def _webp_size(data: bytes) -> tuple[int, int]:
    """Size of a WebP file by its first chunk (RFC 9649): extended, lossless or lossy."""
    chunk = data[12:16]
    if chunk == b"VP8X":
        low_w, high_w, low_h, high_h = struct.unpack("<HBHB", data[24:30])
        return 1 + low_w + (high_w << 16), 1 + low_h + (high_h << 16)
    if chunk == b"VP8L":
        (bits,) = struct.unpack("<I", data[21:25])
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


@functools.cache
def _plugins() -> tuple[str, ...]:
    """Those of `PILLOW_FORMATS` that this build of Pillow has; others make `Image.open` fail."""
    Image.init()
    return tuple(name for name in PILLOW_FORMATS if name in Image.OPEN)


def other_format(data: bytes) -> str:
    """A format whose mark the file bears and that is not accepted, such as ``ICO``; "" for none.

    Nothing is opened: Pillow's plugins are asked about the first bytes alone.
    """
    Image.init()
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
        return "HEIC"
    if _is_tga(data):
        return "TGA"  # which begins as CUR does
    for name, (_, accepts) in Image.OPEN.items():
        if name not in PILLOW_FORMATS and accepts and accepts(data[:16]) is True:
            return name
    return ""


def _is_tga(data: bytes) -> bool:
    """Whether the file ends as TGA 2.0 does, or has the header and the length of an older TGA."""
    if data.endswith(_TGA_END):
        return True
    if len(data) < _TGA_HEADER.size:
        return False
    skipped, table, kind, _, entries, entry_bits, width, height, depth = _TGA_HEADER.unpack_from(
        data
    )
    palette = (entries * entry_bits + 7) // 8 if table == 1 else 0
    length = _TGA_HEADER.size + skipped + palette + width * height * depth // 8
    plain = kind in (1, 2, 3) and table == (kind == 1) and depth in (8, 16, 24, 32)
    return plain and width * height > 0 and len(data) == length


@contextlib.contextmanager
def pillow(data: bytes) -> Iterator[Image.Image]:
    """The opened image, without Pillow's own bomb check and warnings: the caller checks sizes."""
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            with Image.open(io.BytesIO(data), formats=_plugins()) as image:
                yield image
        finally:
            Image.MAX_IMAGE_PIXELS = theirs


def probe(data: bytes, pixel_limit: int) -> Header:
    """Read the header of an encoded image; never raises, whatever the bytes are.

    `pixel_limit` (pixels) matters for WebP alone, whose header Pillow reads into a full canvas.
    """
    declared = _declared_size(data)
    kind = sniff(data)
    if kind == "WEBP" and declared[0] * declared[1] > pixel_limit:
        return Header(width=declared[0], height=declared[1], format=kind)
    try:
        with pillow(data) as image:
            return _describe(image, declared, data)
    except UnidentifiedImageError:
        other = other_format(data)
        error = f"{other}, a format that is not accepted" if other else "no image format known"
    except Exception as problem:  # plugins raise anything from SyntaxError to struct.error
        error = f"{type(problem).__name__}: {problem}"
    return Header(width=declared[0], height=declared[1], format=kind, error=error)


def _describe(image: Image.Image, declared: tuple[int, int], data: bytes) -> Header:
    kind = image.format or ""
    kind = "JPEG" if kind in _SAME_AS_JPEG else kind
    width, height = max(image.size, declared, key=lambda size: size[0] * size[1])
    return Header(
        width=width,
        height=height,
        channels=_PALETTE_CHANNELS.get(image.mode, len(image.getbands())),
        format=kind,
        mode=image.mode,
        frames=1 if kind == "JPEG" else _frames(image),
        orientation=_orientation(image, kind, data),
    )


def _png_exif(data: bytes) -> bytes:
    """Returns the eXIf chunk of a PNG (PNG 3rd edition, 11.3.3), or b"" when it has none.

    The chunk may follow the pixels, which Pillow would decode to reach it.
    """
    at = len(_PNG)
    while at + 8 <= len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        if name == b"eXIf":
            return data[at + 8 : at + 8 + length]
        at += 12 + length
    return b""


def _frames(image: Image.Image) -> int:
    """Frames of an animation or pages of a document; 1 where counting them fails."""
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # a broken later frame; the first one is what is judged
        return 1


def _orientation(image: Image.Image, kind: str, data: bytes) -> int:
    """The Exif orientation, 1 where there is none or it is out of range."""
    try:
        if kind in _WITH_EXIF:
            exif = image.getexif()
        elif kind == "PNG" and (block := _png_exif(data)):
            exif = Image.Exif()
            exif.load(block)
        else:
            return 1
        value = int(exif.get(ExifTags.Base.Orientation, 1))
    except Exception:  # Exif blocks are broken in many ways, and no reason to lose the image
        return 1
    return value if 1 <= value <= 8 else 1
