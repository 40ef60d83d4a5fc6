"""What Pillow says of an image file: its header, its alpha channel, and its pixels.

The size is known before a decoder allocates memory for it, which protects against decompression
bombs. `Look` reads it as the serving op does, Pillow with its plugins. When the two differ, as for
a file that is valid in two formats, the larger size is used.
"""

from __future__ import annotations

import calendar
import contextlib
import dataclasses
import functools
import io
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from imgpipe.models.errors import ResourceError, first_line
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
_WITH_ALPHA = ("RGBA", "LA", "PA")  # Pillow's modes
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTH = 24  # place of the depth in a PNG file
_BITS_PER_SAMPLE = 258  # TIFF 6.0, page 29
_SAMPLES_PER_PIXEL = 277  # TIFF 6.0, page 39
_COUNTED_BANDS, _COUNTED_BITS = 65_535, 255  # at most
_BIG_TIFF = 43  # version in the header
_HEADER, _BIG_HEADER = 8, 16  # bytes
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
    bands: int = 0  # of a TIFF file; otherwise 0
    bits: int = 0  # of each channel of a PNG or TIFF file; otherwise 0

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
    bands, bits = _bands_and_bits(look.data)
    declared = Header(width=width, height=height, format=look.format, bands=bands, bits=bits)
    if look.hidden_cost:  # Pillow would expand the texts of a PNG
        why = f"not decoded: it has {look.hidden_cost}"
        return dataclasses.replace(declared, hidden_cost=why)
    if look.format == "WEBP" and look.pixels > pixel_limit:
        return declared
    try:
        with pillow(look.data) as image:
            return _described(image, declared)
    except Exception:  # plugins raise anything from SyntaxError to struct.error
        return declared


def _described(image: Image.Image, declared: Header) -> Header:
    kind = image.format or ""
    kind = "JPEG" if kind in _SAME_AS_JPEG else kind
    sizes = (image.size, (declared.width, declared.height))
    width, height = max(sizes, key=lambda sides: sides[0] * sides[1])
    camera, captured = _camera_and_moment(image)
    return dataclasses.replace(
        declared,
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


def _bands_and_bits(data: bytes) -> tuple[int, int]:
    """Return the number of bands of a TIFF file, and the bits of each channel; 0 if unknown.

    Pillow opens hardly any TIFF file with more than four bands, and says nothing of the lower bits
    of the colours of TIFF and PNG.
    """
    if data.startswith(_PNG):
        return 0, int.from_bytes(data[_PNG_DEPTH : _PNG_DEPTH + 1])
    try:
        size = _BIG_HEADER if _BIG_TIFF in data[2:4] else _HEADER
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:size])
        with io.BytesIO(data) as file:
            file.seek(tags.next)
            tags.load(file)
        bits = tags.get(_BITS_PER_SAMPLE, (1,))
        bands = int(tags.get(_SAMPLES_PER_PIXEL, 1))
        return min(bands, _COUNTED_BANDS), min(int(max(bits)), _COUNTED_BITS)
    except Exception:  # Pillow raises exceptions of any type for broken files
        return 0, 0


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


def error_of_pillow(data: bytes, read: Callable[..., object]) -> str:
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


def alpha_channel(data: bytes, kind: str, mode: str) -> np.ndarray | None:
    """Read the alpha channel of an encoded file, uint8 [H, W]; None where there is none to read.

    `kind` and `mode` are Pillow's names of the file format and of the mode. Raises ResourceError
    without enough memory.
    """
    import tensorflow as tf

    # The transparency of a palette is in the chunk tRNS, before the pixels (PNG 3rd edition, 5.6).
    chunk = kind == "PNG" and b"tRNS" in data[: max(data.find(b"IDAT"), 0)]
    if mode not in _WITH_ALPHA and kind != "GIF" and not chunk:
        return None
    try:
        if kind == "PNG":  # Pillow ignores the transparent colour of 16 bits per channel
            with tf.device("cpu"):
                return np.asarray(tf.io.decode_png(tf.constant(data), channels=4)[..., 3])
        with pillow(data) as image:
            # Opening a file does not decode it, so that opaque files take little time.
            if mode not in _WITH_ALPHA and "transparency" not in image.info:
                return None
            return np.asarray(image.convert("RGBA").getchannel("A"))
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        raise no_memory(error) from error
    except Exception:  # Pillow's plugins raise exceptions of any type for broken files
        return None


def no_memory(error: BaseException) -> ResourceError:
    """Return the error of an image that may well be decoded another time."""
    return ResourceError(
        f"there is not enough memory to decode an image ({first_line(error)}). End other programs, "
        "or lower judge.pixel_limit, and run again"
    )
