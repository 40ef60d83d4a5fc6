"""What the libraries of the formats say of an image file: its header, and signs of damage.

The size is known before a decoder allocates memory for it, which protects against decompression
bombs. `Look` reads it as the serving op does, Pillow with its plugins. When the two differ, as for
a file that is valid in two formats, the larger size is used.

The serving op passes over libjpeg's warnings, after which pixels are grey or at a wrong place. It
refuses a PNG with a wrong checksum, at which Pillow, which is asked then, does not look. It shows
the part of a GIF before the damage, at which Pillow stops. In files of other formats no damage is
looked for.
"""

from __future__ import annotations

import calendar
import contextlib
import dataclasses
import functools
import io
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import simplejpeg
from PIL import ExifTags, Image, JpegImagePlugin, UnidentifiedImageError

from imgpipe.serving.look import HEIC, Look
from imgpipe.serving.pillow_pixels import eight_bits, upright

#: Camera files with a second image for previews: every reader treats them as JPEG, and they are not
#: animations.
_SAME_AS_JPEG = {"MPO"}
_HEIF = "HEIF"  # the name of the plugin of pi-heif
#: Formats of photographs in which images beside the first one are no frames of an animation.
_STILL = {"JPEG", _HEIF}
#: Pillow plugins that may read a file. These are excluded on purpose: EPS, whose plugin starts
#: Ghostscript; ICO and ICNS, whose plugins decode the image while opening it, before its size is
#: known; and formats without magic bytes, whose plugins accept any bytes as an image.
PILLOW_FORMATS = (
    *("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "AVIF"),
    *("TIFF", "JPEG2000", "PPM", "PCX", "SGI", "QOI", _HEIF),
)
_IS_REDUCED = 1  # bit of NewSubfileType: a smaller version of another image (TIFF 6.0, page 36)
_SUBFILE_TYPE = 254
_DNG_VERSION = 50706
_MAKE = 271  # who made the camera
#: What `by_pillow` says of a file whose photograph Pillow cannot read.
ONLY_PREVIEW = "all that can be read is its preview"
_UNIDENTIFIED = "unknown image format"
_PALETTE_CHANNELS = {"P": 3, "PA": 4}
#: Names of the subsampling by the number that Pillow gives it; -1 is none that it knows.
_SUBSAMPLING = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}
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
_lock = threading.Lock()  # Pillow's limit and Python's warning filters are global to the process


@dataclass(slots=True, kw_only=True)
class Header:
    """Properties that a header states; 0 or "" for those that it does not state."""

    width: int = 0
    height: int = 0
    channels: int = 0
    format: str = ""
    mode: str = ""
    frames: int = 1
    jpeg_tables: int = 0  # sum of the quantisation tables of a JPEG, which tells its quality
    subsampling: str = ""  # of the colours of a JPEG, such as "4:2:0"
    camera: str = ""  # model of the camera, or its make if that is all that is known
    captured: int = 0  # moment of the photograph by the clock of the camera, in seconds
    hidden_cost: str = ""  # why the file must not be decoded, whatever its size in pixels is

    @property
    def pixels(self) -> int:
        """Number of pixels, width × height."""
        return self.width * self.height

    @property
    def size_in_words(self) -> str:
        """Width and height for messages, such as "640 x 480"."""
        return f"{self.width} x {self.height}"


@functools.cache
def _plugins() -> tuple[str, ...]:
    """Return the `PILLOW_FORMATS` that this build of Pillow has; others make `Image.open` fail."""
    Image.init()
    with contextlib.suppress(ImportError):  # an extra
        import pi_heif

        pi_heif.register_heif_opener(thumbnails=False)
    return tuple(name for name in PILLOW_FORMATS if name in Image.OPEN)


def converted_formats() -> tuple[str, ...]:
    """Return the formats whose files Pillow reads, so that they can be converted for the model."""
    readable = _plugins()
    return (*readable, HEIC) if _HEIF in readable else readable


@contextlib.contextmanager
def pillow(data: bytes) -> Iterator[Image.Image]:
    """Open an image without Pillow's size limit and warnings; the caller checks the size."""
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        previous = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            with Image.open(io.BytesIO(data), formats=_plugins()) as image:
                yield image
        finally:
            Image.MAX_IMAGE_PIXELS = previous


def probe(look: Look, pixel_limit: int) -> Header:
    """Read the header of an encoded image; never raises, whatever the bytes are.

    Args:
        look: The look at the encoded file.
        pixel_limit: Number of pixels above which a WebP file is not opened, because Pillow
            allocates the full canvas when it opens one. Other formats are not limited.

    Examples:
        >>> from pathlib import Path
        >>> header = probe(Look(Path("rock.jpg").read_bytes()), pixel_limit=100_000_000)
        >>> header.format, header.width, header.height
        ('JPEG', 160, 160)
        >>> probe(Look(b"These are the minutes of"), pixel_limit=100_000_000).format
        ''
    """
    width, height = look.size
    declared = Header(width=width, height=height, format=look.format)
    if look.hidden_cost:  # Pillow would expand the texts of a PNG
        why = f"not decoded: it has {look.hidden_cost}"
        return dataclasses.replace(declared, hidden_cost=why)
    if look.format == "WEBP" and look.pixels > pixel_limit:
        return declared
    try:
        with pillow(look.data) as image:
            return _described(image, look.size)
    except Exception:  # plugins raise anything from SyntaxError to struct.error
        return declared


def _described(image: Image.Image, size: tuple[int, int]) -> Header:
    kind = image.format or ""
    kind = "JPEG" if kind in _SAME_AS_JPEG else kind
    width, height = max(image.size, size, key=lambda sides: sides[0] * sides[1])
    camera, captured = _camera_and_moment(image)
    return Header(
        width=width,
        height=height,
        channels=_PALETTE_CHANNELS.get(image.mode, len(image.getbands())),
        format=kind,
        mode=image.mode,
        frames=1 if kind in _STILL else _frames(image),
        jpeg_tables=sum(map(sum, getattr(image, "quantization", {}).values())),
        subsampling=_SUBSAMPLING.get(JpegImagePlugin.get_sampling(image), ""),
        camera=camera,
        captured=captured,
    )


def _camera_and_moment(image: Image.Image) -> tuple[str, int]:
    """Return the camera and the moment of the photograph in seconds; "" and 0 if they are unknown.

    Parts of Pillow raise exceptions of any type for broken blocks.
    """
    camera = ""
    seconds = 0
    if "exif" in image.info:
        with contextlib.suppress(Exception):
            exif = image.getexif()
            named = exif.get(ExifTags.Base.Model) or exif.get(ExifTags.Base.Make) or ""
            camera = str(named).strip(" \0")
            moment = str(exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal])
            seconds = calendar.timegm(time.strptime(moment.strip(" \0"), "%Y:%m:%d %H:%M:%S"))
    return camera, max(seconds, 0)


def _frames(image: Image.Image) -> int:
    """Return the number of frames or pages; 1 when they cannot be counted."""
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # a later frame is broken, but only the first one is used
        return 1


def by_pillow(look: Look) -> tuple[Image.Image | None, str]:
    """Read an image as the model gets it if only Pillow reads it: upright, in 8-bit RGB.

    With it comes a description of the file, such as "TIFF (RGB)"; with None, why Pillow cannot read
    it.
    """
    try:
        with pillow(look.data) as image:
            described = f"{image.format} ({image.mode})"
            _check_photograph(image, look)
            image.load()
            return eight_bits(upright(image)), described
    except UnidentifiedImageError:
        return None, _UNIDENTIFIED
    except Exception as error:  # Pillow's plugins raise exceptions of any type for broken files
        return None, str(error) or type(error).__name__


def as_png(image: Image.Image) -> bytes:
    """Return an image as a PNG file."""
    out = io.BytesIO()
    image.save(out, format="PNG")
    return out.getvalue()


def _check_photograph(image: Image.Image, look: Look) -> None:
    """Refuse a part of a JPEG, and camera raw, whose first image is a preview of the photograph."""
    if image.format == "JPEG" and look.is_cut_short:
        raise ValueError("the end is missing")  # zeros behind a cut would be read as pixels
    tags = getattr(image, "tag_v2", {})
    is_raw = _DNG_VERSION in tags or look.data[8:10] == b"CR"
    if image.format != "TIFF" or not (is_raw or tags.get(_SUBFILE_TYPE, 0) & _IS_REDUCED):
        return
    kind = "camera raw" if is_raw or tags.get(_MAKE) else "a TIFF file that begins with a thumbnail"
    width, height = image.size
    raise ValueError(f"{kind}: {ONLY_PREVIEW} of {width} x {height} pixels")


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
        return _error_of_pillow(look.data, lambda image: image.verify())
    if kind == "GIF" and is_decoded:
        return _error_of_pillow(look.data, lambda image: image.load())
    return ""


def _error_of_pillow(data: bytes, read: Callable[..., object]) -> str:
    """Return Pillow's error when it reads a file, "" if there is none."""
    try:
        with pillow(data) as image:
            read(image)
    except MemoryError:
        return ""
    except UnidentifiedImageError:  # it names an address in memory
        return f"Pillow: {_UNIDENTIFIED}"
    except Exception as error:  # Pillow's plugins raise exceptions of any type for broken files
        return f"Pillow: {error}"
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
