"""Reduction of an image by block averages, from which sharpness, colour and hashes are computed.

Resizing a photograph with a good kernel takes longer than decoding it. Averaging whole blocks takes
a tenth of that time. The reduced image keeps twice as many pixels in each direction as needed, and
the kernel then resizes that image, so the result barely changes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from PIL import Image

#: Pixels of the longer side at which sharpness is measured, so that noise does not count.
THUMBNAIL = 64
_SPARE = 2  # pixels of the reduced image for each of the thumbnail, in each direction
_ROWS = 256  # at most this many rows are averaged, so that their sums fit in 16 bits


@dataclass(frozen=True)
class Small:
    """An image reduced to about a hundred pixels in each direction."""

    image: Image.Image  # RGB
    #: The part that shows the image: the last row and column may stand for fewer pixels.
    box: tuple[float, float, float, float]
    thumbnail: tuple[int, int]  # (width, height) of the image at `THUMBNAIL`

    @functools.cached_property
    def grey(self) -> Image.Image:
        """The reduced image in grey."""
        return self.image.convert("L")


def thumbnail_size(width: int, height: int) -> tuple[int, int]:
    """Return (width, height) of the thumbnail, whose longer side is at most `THUMBNAIL`."""
    ratio = max(width, height) / THUMBNAIL
    if ratio <= 1:
        return width, height
    return max(int(width // ratio), 1), max(int(height // ratio), 1)


def shrink(pixels: np.ndarray) -> Small:
    """Reduce an image.

    Args:
        pixels: uint8 [H, W, 3], with at least one pixel.
    """
    height, width = pixels.shape[:2]
    thumbnail = thumbnail_size(width, height)
    across = max(width // (_SPARE * thumbnail[0]), 1)
    down = min(max(height // (_SPARE * thumbnail[1]), 1), _ROWS)
    image = Image.fromarray(_rows_averaged(pixels, down) if down > 1 else pixels)
    if across > 1:
        image = image.reduce((across, 1))
    return Small(image, (0, 0, width / across, height / down), thumbnail)


def _rows_averaged(pixels: np.ndarray, count: int) -> np.ndarray:
    """Average each `count` rows, and the remaining ones: uint8 [ceil(H / count), W, 3]."""
    height, width = pixels.shape[:2]
    whole = height // count
    parts = pixels[: whole * count].reshape(whole, count, width * 3)
    sums = np.full((whole, width * 3), count // 2, np.uint16)  # half of the divisor, for rounding
    for row in range(count):
        sums += parts[:, row]
    rows = (sums // np.uint16(count)).astype(np.uint8).reshape(whole, width, 3)
    if height == whole * count:
        return rows
    rest = pixels[whole * count :].mean(axis=0, keepdims=True)
    return np.concatenate([rows, rest.round().astype(np.uint8)])
