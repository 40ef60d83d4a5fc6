"""Perceptual hashes of an image and of its crops, 256 bits each, and a small grey image.

Each hash is a difference hash of 16 x 16 bits: the image is reduced to 17 x 16 grey pixels, and
each bit says whether a pixel is darker than its right neighbour. Saving an image again, resizing or
brightening it changes only a few bits, while the hashes of unrelated images differ in about 128
bits. Cropping 5 % of the image changes more bits. Therefore the hashes of such crops are computed
too, and the hash of a cropped copy is close to one of them. One matrix product computes all hashes
from a small grey image, so no library is needed. Half of that image in each direction is kept
beside the hashes: `grey_comparison` confirms with it that two images with similar hashes are alike.
An image that is too plain for such hashes has the SHA-256 of its pixels in their place, which is as
long, so that only copies with the same pixels are near it.
"""

from __future__ import annotations

import functools
import hashlib

import numpy as np
import numpy.typing as npt
from PIL import Image

from imgpipe.components.image_file.pixels import Pixels

SIDE = 16  # bits in each direction
BITS = SIDE * SIDE
BYTES = BITS // 8
#: Side of the grey image that all hashes are computed from, in pixels: four for each bit.
_GRID = 4 * SIDE
#: Side and bytes of the grey image that is kept.
GREY_SIDE = _GRID // 2
GREY_BYTES = GREY_SIDE * GREY_SIDE
#: (size, start) of the windows in each direction, as shares of the side: all of it, or 95 %.
WINDOWS = ((1.0, 0.0), (0.95, 0.0), (0.95, 0.025), (0.95, 0.05))
#: Number of crops: every pair of windows except the whole image.
CROPS = len(WINDOWS) ** 2 - 1
#: Number of hashes of an image: upright, mirrored, crops.
KINDS = 2 + CROPS
#: Number of bytes of all hashes of an image and of its grey image.
ALL_BYTES = KINDS * BYTES + GREY_BYTES
_LOBES = 3  # size of the Lanczos kernel
#: Smallest difference between neighbours, in grey levels (0..255), that counts as image content.
#: Smaller differences come from JPEG noise and from plain backgrounds.
_STEP = 2
#: Number of such differences that an image needs; otherwise only its pixels are compared.
_MIN_STEPS = 64
#: Number of neighbouring bits (of 480 horizontal and vertical pairs) that must differ; otherwise
#: the image has no texture, and all ramps and vignettes have the same hash. None of 900 photographs
#: and rendered figures has fewer than 73 such pairs; a ramp has none.
_MIN_CHANGES = 40


def perceptual_hashes(image: Pixels) -> bytes:
    """Compute all perceptual hashes of an image.

    The Exif orientation is not applied, because the serving op does not apply it either.

    Returns:
        `ALL_BYTES` bytes: the hashes of the upright image, the mirrored image and `CROPS` crops,
        and the grey image. When the image is too plain or too smooth to be distinguished from
        others, each hash is that of its size and pixels.
    """
    small = image.small
    grey = small.grey.resize((_GRID, _GRID), Image.Resampling.HAMMING, box=small.box)
    pixels = np.asarray(grey, np.float32)
    # Every window of rows with every window of columns: the whole image and all crops.
    cells = weights(SIDE, _GRID) @ pixels @ weights(SIDE + 1, _GRID).T
    cells = cells.reshape(len(WINDOWS), SIDE, len(WINDOWS), SIDE + 1)
    steps = np.diff(cells, axis=3).transpose(0, 2, 1, 3).reshape(-1, SIDE, SIDE)
    whole = steps[0]
    strong = np.count_nonzero(np.abs(whole) >= _STEP)
    if strong < _MIN_STEPS or _changes(whole > 0) < _MIN_CHANGES:
        hashes = _exact(image.values) * KINDS
    else:
        # In the mirror image the order of the pixels and the sign of each difference are reversed.
        bits = np.concatenate([steps[:1] > 0, steps[:1, :, ::-1] < 0, steps[1:] > 0])
        hashes = np.packbits(bits).tobytes()
    kept = pixels.reshape(GREY_SIDE, 2, GREY_SIDE, 2).mean(axis=(1, 3)).round()
    return hashes + kept.astype(np.uint8).tobytes()


def _exact(values: np.ndarray) -> bytes:
    """SHA-256 of the size and the pixels of an image, `BYTES` bytes."""
    digest = hashlib.sha256(repr(values.shape).encode())
    digest.update(np.ascontiguousarray(values).data)
    return digest.digest()


@functools.cache
def weights(cells: int, grid: int) -> npt.NDArray[np.float32]:
    """Return Lanczos weights that reduce each window of a side to `cells` pixels.

    Args:
        cells: Number of pixels of a window after the reduction.
        grid: Number of pixels of the side before the reduction.

    Returns:
        float32 [windows · cells, grid].
    """
    tables = []
    for size, start in WINDOWS:
        width = size * grid / cells
        centres = start * grid + (np.arange(cells) + 0.5) * width
        away = (np.arange(grid) + 0.5 - centres[:, None]) / width
        kernel = np.sinc(away) * np.sinc(away / _LOBES) * (np.abs(away) < _LOBES)
        tables.append(kernel / kernel.sum(axis=1, keepdims=True))
    return np.concatenate(tables).astype(np.float32)


def _changes(bits: npt.NDArray[np.bool_]) -> int:
    across, down = bits[:, 1:] != bits[:, :-1], bits[1:] != bits[:-1]
    return int(np.count_nonzero(across) + np.count_nonzero(down))
