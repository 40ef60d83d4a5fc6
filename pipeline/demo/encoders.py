"""Encodes images in the formats that folders of images usually contain."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

# Tags of Exif, which has them from TIFF 6.0.
_EXIF_ORIENTATION = 0x0112
_EXIF_MODEL = 0x0110


def encoded(image: Image.Image, suffix: str, quality: int = 90, **options: Any) -> bytes:
    """Encode an image.

    Args:
        image: The image.
        suffix: Suffix of the file, which names the format, such as ``.jpg`` or ``.PNG``.
        quality: Quality of a JPEG.
        **options: Further options of Pillow's `Image.save`.

    Returns:
        The bytes of the file.
    """
    kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".tif": "TIFF", ".gif": "GIF"}
    form = kind[suffix.lower()]
    if form == "JPEG":
        options = {"quality": quality, **options}
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def turned(image: Image.Image) -> bytes:
    """Encode an image as a JPEG that is stored rotated, with the Exif tag that corrects it."""
    exif = Image.Exif()
    exif[_EXIF_ORIENTATION] = 6  # shown after a quarter turn clockwise
    exif[_EXIF_MODEL] = "imgpipe demo"
    stored = image.transpose(Image.Transpose.ROTATE_90)
    return encoded(stored, ".jpg", exif=exif)


def animation(images: list[Image.Image]) -> bytes:
    """Encode an animated GIF with one frame for each image."""
    return encoded(images[0], ".gif", save_all=True, append_images=images[1:], duration=200)
