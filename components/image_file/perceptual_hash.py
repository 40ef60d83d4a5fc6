"""Perceptual hashes of an image and of crops of it, 256 bits each.

A difference hash of 16 x 16 bits: the image is shrunk to 17 x 16 grey pixels, and each bit says
whether a pixel is darker than its right neighbour. Saving again, shrinking and brightening change
only a few bits; the hash of an unrelated image differs in some 128. Cutting off a twentieth of
the image changes more bits, so the hashes of such crops are computed too, and the hash of a cropped
copy is close to one of them. All hashes come from one small grey image by one matrix product, so no
library is needed for them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from imgpipe.components.image_file.reduction import Small

SIDE = 16  # bits each way
BITS = SIDE * SIDE
BYTES = BITS // 8
#: Pixels each way of the grey image that all hashes come from: four a bit.
_GRID = 4 * SIDE
#: (part of the side that is left, where it begins), each way: whole, or without a twentieth.
_WINDOWS = ((1.0, 0.0), (0.95, 0.0), (0.95, 0.025), (0.95, 0.05))
#: Hashes of crops: every pair of windows but the whole image.
CROPS = len(_WINDOWS) ** 2 - 1
#: Bytes of all hashes of an image: upright, mirrored, crops.
ALL_BYTES = (2 + CROPS) * BYTES
_LOBES = 3  # of the Lanczos kernel
#: Grey levels (0..255) by which neighbours differ before that says something about the image;
#: under it lie the noise of JPEG and the ripples of plain backgrounds.
_STEP = 2
#: Bits of at least that step below which an image is too plain to be told from others.
_MIN_STEPS = 64
#: Neighbours in the hash (of 480 pairs, side by side or one above the other) that differ, below
#: which it has no texture: a ramp or a vignette has the hash of every other ramp or vignette. Of
#: 900 images and rendered figures none has fewer than 73; a ramp has none.
_MIN_CHANGES = 40


@dataclass(frozen=True, order=True)
class PerceptualHashes:
    """Hash of an image, of its mirror image, 32 bytes each, and those of its crops in a row."""

    upright: bytes
    mirrored: bytes
    crops: bytes = b""


def parse(hashes: bytes) -> PerceptualHashes:
    """What `perceptual_hashes` gave, in its parts."""
    return PerceptualHashes(hashes[:BYTES], hashes[BYTES : 2 * BYTES], hashes[2 * BYTES :])


def perceptual_hashes(small: Small) -> bytes:
    """`ALL_BYTES` bytes: upright, mirrored, `CROPS` crops.

    Of an image that is too plain or too smooth to be told from others by them, b"".

    Pixels are taken as stored, Exif orientation not applied: as the serving op sees them.
    """
    grey = small.grey.resize((_GRID, _GRID), Image.Resampling.HAMMING, box=small.box)
    rows, columns = _weights(SIDE), _weights(SIDE + 1)
    cells = rows @ np.asarray(grey, np.float32) @ columns.T
    cells = cells.reshape(len(_WINDOWS), SIDE, len(_WINDOWS), SIDE + 1)
    steps = np.diff(cells, axis=3).transpose(0, 2, 1, 3).reshape(-1, SIDE, SIDE)
    whole = steps[0]
    if np.count_nonzero(np.abs(whole) >= _STEP) < _MIN_STEPS:
        return b""
    if _changes(whole > 0) < _MIN_CHANGES:
        return b""
    upright, crops = _packed(whole > 0), _packed(steps[1:] > 0)
    return upright + _packed(whole[:, ::-1] < 0) + crops


@functools.cache
def _weights(cells: int) -> npt.NDArray[np.float32]:
    """Float32 [windows · cells, grid]: the Lanczos weights that shrink a side to `cells`."""
    tables = []
    for size, start in _WINDOWS:
        width = size * _GRID / cells
        centres = start * _GRID + (np.arange(cells) + 0.5) * width
        away = (np.arange(_GRID) + 0.5 - centres[:, None]) / width
        kernel = np.sinc(away) * np.sinc(away / _LOBES) * (np.abs(away) < _LOBES)
        tables.append(kernel / kernel.sum(axis=1, keepdims=True))
    return np.concatenate(tables).astype(np.float32)


def _changes(bits: npt.NDArray[np.bool_]) -> int:
    across, down = bits[:, 1:] != bits[:, :-1], bits[1:] != bits[:-1]
    return int(np.count_nonzero(across) + np.count_nonzero(down))


def _packed(bits: npt.NDArray[np.bool_]) -> bytes:
    return np.packbits(bits.reshape(-1)).tobytes()


def distance(one: bytes, other: bytes) -> int:
    """Bits in which two hashes differ, 0..256."""
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()
