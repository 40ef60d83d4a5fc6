"""An image shrunk once, by plain averages: what sharpness, colour and perceptual hash start from.

Resizing an image with a good kernel costs more than decoding it. An average over whole blocks
costs a tenth, and leaves twice the pixels that the kernel then works on, so that what comes out is
hardly another.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from PIL import Image

THUMBNAIL = 64  # pixels, the longer side at which sharpness is measured: noise is no detail
_SPARE = 2  # times as many pixels each way are left for the kernel
_ROWS = 256  # rows averaged at most: their sums fit 16 bits


@dataclass(frozen=True)
class Small:
    """An image of some hundred pixels each way, and the part of it that is image."""

    image: Image.Image  # RGB
    box: tuple[float, float, float, float]  # the last row and column may stand for less
    thumbnail: tuple[int, int]  # (width, height) of the image at `THUMBNAIL`

    @functools.cached_property
    def grey(self) -> Image.Image:
        """In grey."""
        return self.image.convert("L")


def thumbnail_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) of an image whose longer side is at most `THUMBNAIL`."""
    ratio = max(width, height) / THUMBNAIL
    if ratio <= 1:
        return width, height
    return max(int(width // ratio), 1), max(int(height // ratio), 1)


def shrink(pixels: np.ndarray) -> Small:
    """Shrink an image: uint8 [H, W, 3], at least one pixel."""
    height, width = pixels.shape[:2]
    thumbnail = thumbnail_size(width, height)
    across = max(width // (_SPARE * thumbnail[0]), 1)
    down = min(max(height // (_SPARE * thumbnail[1]), 1), _ROWS)
    image = Image.fromarray(_rows_averaged(pixels, down) if down > 1 else pixels)
    if across > 1:
        image = image.reduce((across, 1))
    return Small(image, (0, 0, width / across, height / down), thumbnail)


def _rows_averaged(pixels: np.ndarray, count: int) -> np.ndarray:
    """Uint8 [ceil(H / count), W, 3]: each row the average of `count`, the last of what is left."""
    height, width = pixels.shape[:2]
    whole = height // count
    parts = pixels[: whole * count].reshape(whole, count, width * 3)
    sums = np.full((whole, width * 3), count // 2, np.uint16)  # rounds
    for row in range(count):
        sums += parts[:, row]
    rows = (sums // np.uint16(count)).astype(np.uint8).reshape(whole, width, 3)
    if height == whole * count:
        return rows
    rest = pixels[whole * count :].mean(axis=0, keepdims=True)
    return np.concatenate([rows, rest.round().astype(np.uint8)])
