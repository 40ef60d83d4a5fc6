"""Image files for the tests: noise and soft colours, encoded in any format Pillow writes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """The file of an image.

    Args:
        image: a Pillow image, or uint8 pixels [height, width] or [height, width, channels].
        kind: Pillow's name of the format.
        options: of the format, such as ``quality`` and ``exif``.
    """
    out = io.BytesIO()
    made = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    made.save(out, kind, **options)
    return out.getvalue()


def noise(seed: int = 0, size: tuple[int, int] = (40, 32)) -> np.ndarray:
    """Pixels of even noise, uint8 [height, width, 3]; each seed gives another image."""
    return np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)


def soft(seed: int = 0, size: tuple[int, int] = (80, 60)) -> Image.Image:
    """An image of soft random colours, which survives JPEG compression better than noise."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def folder_of(root: Path, labels: Sequence[str] = ("cat", "dog")) -> Path:
    """Write one black PNG file of 40 x 40 pixels for each label below ``root``; returns it."""
    for label in labels:
        (root / label).mkdir(parents=True)
        (root / label / "0.png").write_bytes(encoded(Image.new("RGB", (40, 40))))
    return root


def distance(one: bytes, other: bytes) -> int:
    """The number of bits in which two perceptual hashes differ, 0..256."""
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()
