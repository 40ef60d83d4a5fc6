"""Small images for the page, made from whatever bytes quarantine and the examples hold.

The bytes are hostile: every image is decoded within a pixel limit and encoded anew, so that
nothing of the file itself reaches the page.
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
    """Data URIs of small images by image hash, each made at most once.

    Args:
      images: encoded files by image hash.
    """

    def __init__(self, images: Mapping[str, bytes]) -> None:
        self._images = images
        self._made: dict[str, str] = {}

    def uri(self, image_hash: str | None) -> str:
        """``data:image/jpeg;base64,…``, or "" where there is no image to show."""
        data = self._images.get(image_hash or "")
        if not image_hash or not data:
            return ""
        if image_hash not in self._made:
            self._made[image_hash] = thumbnail(data)
        return self._made[image_hash]


def thumbnail(data: bytes) -> str:
    """A small JPEG as data URI; "" for bytes that give no image. Never raises.

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
    except Exception:  # Pillow's plugins raise anything from SyntaxError to struct.error
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(small.getvalue()).decode("ascii")


@contextlib.contextmanager
def _truncated_too() -> Iterator[None]:
    """Pillow gives the part that is there; the setting belongs to the process, `pillow` locks."""
    theirs = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = theirs
