"""Thumbnails for the page, made from the files in the quarantine and the examples.

The files are not trusted: every image is decoded within a pixel limit and encoded again, so the
bytes of the file itself are never part of the page.
"""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Iterator, Mapping

from PIL import ImageFile

from imgpipe.components.image_file.header import pillow

SIDE = 96  # pixels, the longer side; shown at half of that, sharp on dense screens
_PIXEL_LIMIT = 40_000_000  # decoded; about 0.5 s and 120 MB, larger ones go without an image
_QUALITY = 72  # of the JPEG; about 2 kB an image


class Thumbnails:
    """Data URIs of thumbnails by image hash; each one is made at most once.

    Args:
        images: Encoded files by image hash.
    """

    def __init__(self, images: Mapping[str, bytes]) -> None:
        self._images = images
        self._made: dict[str, str] = {}

    def uri(self, image_hash: str | None) -> str:
        """Return ``data:image/jpeg;base64,…``, or "" when there is no image to show."""
        data = self._images.get(image_hash or "")
        if not image_hash or not data:
            return ""
        if image_hash not in self._made:
            self._made[image_hash] = thumbnail(data)
        return self._made[image_hash]


def thumbnail(data: bytes) -> str:
    """Make a small JPEG as a data URI; "" when the bytes are not an image. Never raises.

    Exif orientation is not applied: the image is shown as the model sees it. The readable part
    of a truncated file is shown.
    """
    try:
        with pillow(data) as image, _truncated_too():
            image.draft("RGB", (SIDE, SIDE))  # JPEG decodes at an eighth of its size
            if image.width * image.height > _PIXEL_LIMIT:
                return ""
            image.thumbnail((SIDE, SIDE), reducing_gap=2.0)
            small = io.BytesIO()
            image.convert("RGB").save(small, "JPEG", quality=_QUALITY)
    except Exception:  # Pillow's plugins raise exceptions of any type
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(small.getvalue()).decode("ascii")


@contextlib.contextmanager
def _truncated_too() -> Iterator[None]:
    """Let Pillow decode truncated files. The setting is global, and `pillow` holds a lock."""
    theirs = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = theirs
