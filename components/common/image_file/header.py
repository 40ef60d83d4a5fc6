"""Headers of image files, read with Pillow without decoding pixels.

The size is known before a decoder allocates memory for it, which protects against decompression
bombs. `imgpipe.serving.image_header` reads it as the serving op does, Pillow with its plugins. When
the two differ, as for a file that is valid in two formats, the larger size is used.
"""

from __future__ import annotations

import calendar
import contextlib
import functools
import io
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import ExifTags, Image, JpegImagePlugin

from imgpipe.models.machine.packages import install_extra
from imgpipe.serving import image_header
from imgpipe.serving.file_formats import HEIC
from imgpipe.serving.refused_image import IPHONE_REMEDY

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
#: What to do about the photographs of iPhones where pi-heif, an optional package, is missing.
HEIC_REMEDY = (
    "to use HEIC files, install the package that reads them, and run again: "
    + install_extra("heic"),
    IPHONE_REMEDY,
)
_PALETTE_CHANNELS = {"P": 3, "PA": 4}
#: Names of the subsampling by the number that Pillow gives it; -1 is none that it knows.
_SUBSAMPLING = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}
_lock = threading.Lock()  # Pillow's limit and Python's warning filters are global to the process


@dataclass(frozen=True)
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


def probe(data: bytes, pixel_limit: int) -> Header:
    """Read the header of an encoded image; never raises, whatever the bytes are.

    Args:
        data: The encoded file.
        pixel_limit: Number of pixels above which a WebP file is not opened, because Pillow
            allocates the full canvas when it opens one. Other formats are not limited.

    Examples:
        >>> from pathlib import Path
        >>> header = probe(Path("rock.jpg").read_bytes(), pixel_limit=100_000_000)
        >>> header.format, header.width, header.height
        ('JPEG', 160, 160)
        >>> probe(b"These are the minutes of", pixel_limit=100_000_000).format
        ''
    """
    declared = image_header.size(data)
    kind = image_header.sniff(data)
    cost = image_header.hidden_cost(data)
    if cost:  # Pillow would expand the texts of a PNG
        why = f"not decoded: it has {cost}"
        return Header(*declared, format=kind, hidden_cost=why)
    if kind == "WEBP" and declared[0] * declared[1] > pixel_limit:
        return Header(width=declared[0], height=declared[1], format=kind)
    try:
        with pillow(data) as image:
            return _describe(image, declared)
    except Exception:  # plugins raise anything from SyntaxError to struct.error
        return Header(width=declared[0], height=declared[1], format=kind)


def _describe(image: Image.Image, declared: tuple[int, int]) -> Header:
    kind = image.format or ""
    kind = "JPEG" if kind in _SAME_AS_JPEG else kind
    width, height = max(image.size, declared, key=lambda size: size[0] * size[1])
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
