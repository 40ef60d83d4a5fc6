"""The perceptual hash: 256 bits of where a picture gets brighter from left to right.

A difference hash of 16 x 16 bits: shrink to 17 x 16 grey, compare each pixel with its right
neighbour. Saving again, shrinking and brightening leave it within a few bits; another photograph
is some 128 bits away. The hash of the mirrored picture comes from the same pixels. It is a few
lines on Pillow, so no library is taken in for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from components.sources.header import pillow

SIDE = 16  # bits each way
BITS = SIDE * SIDE
BYTES = BITS // 8
#: A JPEG is decoded at the smallest scale that still has this many pixels a bit, each way:
#: three times as fast as whole, and the hash moves by a bit or two.
_DRAFT = 4
#: Grey levels (0..255) by which neighbours differ before that says something about the picture;
#: under it lie the noise of JPEG and the ripples of plain backgrounds.
_STEP = 2
#: Bits of at least that step below which a picture is too plain to be told from others.
_MIN_STEPS = 64

Bits = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PictureHash:
    """Hash of a picture and of its mirror image, 32 bytes each."""

    upright: bytes
    mirrored: bytes


def picture_hash(data: bytes) -> PictureHash | None:
    """The hash of an encoded picture; None for what Pillow cannot read or is too plain.

    Pixels are taken as stored, Exif orientation not applied: as the serving op sees them.
    """
    try:
        grey = _grey(data)
    except Exception:  # Pillow's plugins raise anything on broken bytes; other checks name it
        return None
    steps = np.diff(grey.astype(np.int16), axis=1)
    if np.count_nonzero(np.abs(steps) >= _STEP) < _MIN_STEPS:
        return None
    return PictureHash(_packed(steps > 0), _packed(steps[:, ::-1] < 0))


def _grey(data: bytes) -> npt.NDArray[np.uint8]:
    """Uint8 [16, 17]."""
    with pillow(data) as image:
        image.draft("L", ((SIDE + 1) * _DRAFT, SIDE * _DRAFT))
        if image.mode.startswith("I"):  # 16 bits: Pillow would clip
            deep = np.asarray(image).astype(np.int64).clip(0, 65535) >> 8
            grey = Image.fromarray(deep.astype(np.uint8))
        else:
            grey = image.convert("RGB").convert("L") if image.mode == "P" else image.convert("L")
        return np.asarray(grey.resize((SIDE + 1, SIDE), Image.Resampling.LANCZOS))


def _packed(bits: Bits) -> bytes:
    return np.packbits(bits.reshape(-1)).tobytes()


def distance(one: bytes, other: bytes) -> int:
    """Bits in which two hashes differ, 0..256."""
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()
