"""Perceptual hashes of an image and of its crops, 256 bits each, and a small grey image.

Each hash is a difference hash of 16 x 16 bits: the image is reduced to 17 x 16 grey pixels, and
each bit says whether a pixel is darker than its right neighbour. Saving an image again, resizing or
brightening it changes only a few bits, while the hashes of unrelated images differ in about 128
bits. Cropping 5 % of the image changes more bits. Therefore the hashes of such crops are computed
too, and the hash of a cropped copy is close to one of them. One matrix product computes all hashes
from a small grey image, so no library is needed. Half of that image in each direction is kept
beside the hashes: `alike` confirms with it that two images with similar hashes are alike.
An image that is too plain for such hashes has the SHA-256 of its pixels in their place, which is as
long, so that only copies with the same pixels are near it.

The bits say which of two neighbouring cells is darker, but not by how much. In front of a plain
background most differences are small, so that the hashes of different images may be similar.
`alike` compares the differences themselves, in both directions. What copies and different images
reach is in docs/benchmarks.md, "Constants of the code".
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from imgpipe.components.common.image_file.pixels import Pixels
from imgpipe.models.names.feature_names import Indices

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
#: Number of bytes of all hashes of an image, of its grey image and of its shape.
ALL_BYTES = KINDS * BYTES + GREY_BYTES + 1
#: The shape of an image is width / height as the power of this factor, plus `SQUARE`.
SHAPE_FACTOR = 1.05
SQUARE = 128
_LOBES = 3  # size of the Lanczos kernel
#: Smallest difference between neighbours, in grey levels (0..255), that counts as image content.
#: Smaller differences come from JPEG noise and from plain backgrounds.
_STEP = 2
#: Number of such differences that an image needs; otherwise only its pixels are compared.
_MIN_STEPS = 64
#: Number of neighbouring bits (of 480 horizontal and vertical pairs) that must differ; otherwise
#: the image has no texture, and all ramps and vignettes have the same hash. Photographs are far
#: above: see docs/benchmarks.md, "Constants of the code".
_MIN_CHANGES = 40
#: Similarity from which two images are alike.
SIMILAR = 0.9
#: Hashes of whole images that differ in at most so many bits belong to copies, whatever they show:
#: saving again changes fewer bits, while the grey of a much brighter copy may differ.
CERTAIN = 8

_MIRRORED = 1  # kind of the hash of the mirror image; upright is 0, and those of the crops follow
#: Number of pairs whose images are taken at once, which needs 40 MB at most; and of those whose
#: differences are multiplied at once, in the processor's cache.
_AT_ONCE = 8192
_MULTIPLIED = 256

Greys = npt.NDArray[np.uint8]


def perceptual_hashes(image: Pixels) -> bytes:
    """Compute all perceptual hashes of an image.

    Returns:
        `ALL_BYTES` bytes: the hashes of the upright image, the mirrored image and `CROPS` crops,
        the grey image, and its shape. When the image is too plain or too smooth to be told
        from others, each hash is that of its size and pixels.
    """
    small = image.small
    grey = small.grey.resize((_GRID, _GRID), Image.Resampling.HAMMING, box=small.box)
    pixels = np.asarray(grey, np.float32)
    # Every window of rows with every window of columns: the whole image and all crops.
    cells = weights(SIDE, _GRID) @ pixels @ weights(SIDE + 1, _GRID).T
    cells = cells.reshape(len(WINDOWS), SIDE, len(WINDOWS), SIDE + 1)
    steps = np.diff(cells, axis=3).transpose(0, 2, 1, 3).reshape(-1, SIDE, SIDE)
    upright = steps[0]
    strong = np.count_nonzero(np.abs(upright) >= _STEP)
    if strong < _MIN_STEPS or _changes(upright > 0) < _MIN_CHANGES:
        hashes = _exact(image.values) * KINDS
    else:
        # In the mirror image the order of the pixels and the sign of each difference are reversed.
        bits = np.concatenate([steps[:1] > 0, steps[:1, :, ::-1] < 0, steps[1:] > 0])
        hashes = np.packbits(bits).tobytes()
    kept = pixels.reshape(GREY_SIDE, 2, GREY_SIDE, 2).mean(axis=(1, 3)).round()
    return hashes + kept.astype(np.uint8).tobytes() + _shape(image.values)


def _shape(values: np.ndarray) -> bytes:
    """Return the shape of an image, one byte."""
    height, width = values.shape[:2]
    power = round(math.log(width / height, SHAPE_FACTOR))
    return bytes([min(max(power + SQUARE, 0), 255)])


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
    across = bits[:, 1:] != bits[:, :-1]
    down = bits[1:] != bits[:-1]
    return int(np.count_nonzero(across) + np.count_nonzero(down))


@dataclass(frozen=True)
class HashPairs:
    """Pairs of images with similar hashes, each array [m].

    Attributes:
        first: Index of the image whose upright hash was compared.
        second: Index of the other image.
        kinds: Kind of the hash of the other image.
        bits: Number of bits in which the hashes differ.
    """

    first: Indices
    second: Indices
    kinds: Indices
    bits: Indices

    def __len__(self) -> int:
        return len(self.first)

    @classmethod
    def none(cls) -> HashPairs:
        """Return no pair."""
        return cls(*np.empty((4, 0), np.int64))

    @classmethod
    def join(cls, parts: Iterable[HashPairs]) -> HashPairs:
        """Return the pairs of all parts, one after the other."""
        columns = zip(
            *((pairs.first, pairs.second, pairs.kinds, pairs.bits) for pairs in parts), strict=True
        )
        return cls(*map(np.concatenate, columns))

    def select(self, rows: Indices | npt.NDArray[np.bool_]) -> HashPairs:
        """Return some of the pairs."""
        return HashPairs(self.first[rows], self.second[rows], self.kinds[rows], self.bits[rows])


def alike(greys: Greys, pairs: HashPairs) -> npt.NDArray[np.bool_]:
    """Tell which pairs of images with similar hashes are alike.

    Args:
        greys: Grey images, uint8 [n, `GREY_BYTES`].
        pairs: The m pairs, with indices of grey images.

    Returns:
        bool [m].
    """
    is_alike = (pairs.bits <= CERTAIN) & (pairs.kinds <= _MIRRORED)
    for kind in np.unique(pairs.kinds[~is_alike]).tolist():
        (rows,) = np.nonzero(~is_alike & (pairs.kinds == kind))
        for start in range(0, len(rows), _AT_ONCE):
            part = rows[start : start + _AT_ONCE]
            scores = similarity(greys, pairs.first[part], pairs.second[part], kind)
            is_alike[part] = scores >= SIMILAR
    return is_alike


def similarity(greys: Greys, first: Indices, second: Indices, kind: int) -> npt.NDArray[np.float32]:
    """Compute the correlation of the differences between neighbouring cells.

    The differences of an image are computed once, in however many pairs it is.

    Args:
        greys: Grey images, uint8 [n, `GREY_BYTES`].
        first: Indices of the images that are seen upright, [m].
        second: Indices of the images that they are compared with, [m].
        kind: Kind in which these are seen: 0 upright, 1 mirrored, then crops.

    Returns:
        float32 [m], -1..1.
    """
    scores = np.empty(len(first), np.float32)
    first_images, first_rows = np.unique(first, return_inverse=True)
    second_images, second_rows = np.unique(second, return_inverse=True)
    upright = _differences(greys[first_images], 0)
    seen = _differences(greys[second_images], kind)
    for start in range(0, len(scores), _MULTIPLIED):
        part = slice(start, start + _MULTIPLIED)
        scores[part] = np.einsum("ij,ij->i", upright[first_rows[part]], seen[second_rows[part]])
    return scores


def _differences(greys: Greys, kind: int) -> npt.NDArray[np.float32]:
    """Differences between the cells of images, each row scaled to a length of 1."""
    pixels = greys.reshape(-1, GREY_SIDE, GREY_SIDE).astype(np.float32)
    if kind == _MIRRORED:
        pixels = pixels[:, :, ::-1]
    # Pair 0 of windows shows the whole image (kinds 0 and 1); kind 2 is pair 1, the first crop.
    down, across = divmod(max(kind - _MIRRORED, 0), len(WINDOWS))
    table = weights(SIDE + 1, GREY_SIDE).reshape(len(WINDOWS), SIDE + 1, GREY_SIDE)
    cells = table[down] @ pixels @ table[across].T
    steps = (np.diff(cells, axis=2), np.diff(cells, axis=1))
    rows = np.concatenate([step.reshape(len(cells), -1) for step in steps], axis=1)
    # The smallest length keeps the rows of plain images, which have no differences, at zero.
    rows /= np.maximum(np.sqrt((rows * rows).sum(axis=1, keepdims=True)), np.float32(1e-3))
    return rows
