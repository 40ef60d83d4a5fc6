"""Makes image files for the tests: noise and soft colours, in any format that Pillow writes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """Encode an image and return the bytes of the file.

    Args:
        image: A Pillow image, or uint8 pixels [height, width] or [height, width, channels].
        kind: Pillow's name of the format.
        options: Options of the format, such as ``quality`` and ``exif``.
    """
    out = io.BytesIO()
    made = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    made.save(out, kind, **options)
    return out.getvalue()


def noise(seed: int = 0, size: tuple[int, int] = (40, 32)) -> np.ndarray:
    """Return pixels of uniform noise, uint8 [height, width, 3].

    ``size`` is (width, height). Each seed gives another image.
    """
    return np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)


def soft(seed: int = 0, size: tuple[int, int] = (80, 60)) -> Image.Image:
    """Return an image of soft random colours, which JPEG compression changes less than noise."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def folder_of(root: Path, labels: Sequence[str] = ("cat", "dog")) -> Path:
    """Write ``root``/LABEL/0.png, a black image of 40 x 40 pixels, for each label; return root."""
    for label in labels:
        (root / label).mkdir(parents=True)
        (root / label / "0.png").write_bytes(encoded(Image.new("RGB", (40, 40))))
    return root


def distance(one: bytes, other: bytes) -> int:
    """Return the number of bits in which two perceptual hashes differ, 0..256."""
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()
