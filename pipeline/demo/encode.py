"""Encodes images, in the formats that such folders hold."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

_EXIF_ORIENTATION = 0x0112
_EXIF_MODEL = 0x0110


def encoded(image: Image.Image, suffix: str, quality: int = 90, **options: Any) -> bytes:
    """The bytes of a file with this suffix (".jpg", ".JPG", ".png", …)."""
    kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".tif": "TIFF", ".gif": "GIF"}
    form = kind[suffix.lower()]
    if form == "JPEG":
        options = {"quality": quality, **options}
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def turned(image: Image.Image, quality: int = 90) -> bytes:
    """A JPEG stored lying on its side, with the Exif tag that tells viewers to put it upright."""
    exif = Image.Exif()
    exif[_EXIF_ORIENTATION] = 6  # shown after a quarter turn clockwise
    exif[_EXIF_MODEL] = "imgpipe demo"
    stored = image.transpose(Image.Transpose.ROTATE_90)
    return encoded(stored, ".jpg", quality, exif=exif)


def animation(images: list[Image.Image]) -> bytes:
    """A GIF with one frame for each image."""
    return encoded(images[0], ".gif", save_all=True, append_images=images[1:], duration=200)
