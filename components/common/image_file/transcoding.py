"""Conversion of files that only Pillow reads to PNG, in training and for a model that was trained.

A run trains on the converted images. Whoever asks its model about a file of such a format therefore
has to convert it in the same way, which the commands and the Python functions do.
"""

from __future__ import annotations

import io

from PIL import Image

from imgpipe.components.common.image_file.content import decode
from imgpipe.components.common.image_file.header import pillow, probe
from imgpipe.serving.look import Look
from imgpipe.serving.pillow_pixels import eight_bits, upright

_IS_REDUCED = 1  # bit of NewSubfileType: a smaller version of another image (TIFF 6.0, page 36)
_SUBFILE_TYPE = 254
_DNG_VERSION = 50706
_MAKE = 271  # who made the camera


class PreviewError(ValueError):
    """The image that can be read is the preview of another one in the same file."""


def _check_photograph(image: Image.Image, data: bytes) -> None:
    """Refuse camera raw, whose first image is a small preview of the photograph."""
    tags = getattr(image, "tag_v2", {})
    is_raw = _DNG_VERSION in tags or data[8:10] == b"CR"
    if image.format != "TIFF" or not (is_raw or tags.get(_SUBFILE_TYPE, 0) & _IS_REDUCED):
        return
    kind = "camera raw" if is_raw or tags.get(_MAKE) else "a TIFF file that begins with a thumbnail"
    width, height = image.size
    raise PreviewError(f"{kind}: all that can be read is its preview of {width} x {height} pixels")


def transcode(data: bytes) -> tuple[bytes, str]:
    """Convert a file to PNG with 8-bit RGB.

    Returns:
        (PNG file, description of the original).

    Raises:
        Exception: Pillow cannot read the file; its plugins raise exceptions of any type.
    """
    with pillow(data) as image:
        described = f"{image.format} ({image.mode})"
        _check_photograph(image, data)
        if image.format == "JPEG" and Look(data).is_cut_short:
            raise ValueError("the end is missing")  # zeros behind a cut would be read as pixels
        image.load()
        plain = eight_bits(upright(image))
    out = io.BytesIO()
    plain.save(out, format="PNG")
    return out.getvalue(), described


def for_the_model(data: bytes, pixel_limit: int) -> bytes:
    """Return a file as the served model reads it: as PNG if only Pillow reads it.

    Args:
        data: The encoded file; it is returned unchanged when nothing reads it.
        pixel_limit: Number of pixels above which a file is not decoded.
    """
    look = Look(data)
    header = probe(look, pixel_limit)
    if header.hidden_cost or header.pixels > pixel_limit or not decode(look)[1]:
        return data
    try:
        return transcode(data)[0]
    except Exception:  # Pillow's plugins raise exceptions of any type for broken files
        return data
