"""Comparison of small grey images, which confirms that images with similar hashes are alike.

The bits of a perceptual hash say which of two neighbouring cells is darker, but not by how much. In
front of a plain background most differences are small, so that the hashes of different images may
be similar. Here the differences themselves are compared, in both directions.

Measured on pairs whose hashes differ in at most 40 bits: hands in front of a white wall (1,651
photographs of different poses) reach 0.89 at most, rendered hands of different classes 0.86. Copies
of photographs that were saved again, mirrored or shrunk are above 0.99, crops of 5 % above 0.91,
and copies that were brightened by 30 %, so that light areas turned white, above 0.90.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgpipe.components.image_file.perceptual_hash import GREY_SIDE, SIDE, WINDOWS, weights

#: Similarity from which two images are alike.
SIMILAR = 0.9
#: Hashes of whole images that differ in at most so many bits belong to copies, whatever they show:
#: saving again changes fewer bits, while the grey of a much brighter copy may differ.
CERTAIN = 8

_CELLS = SIDE + 1
_MIRRORED = 1  # kind of the hash of the mirror image; upright is 0, and those of the crops follow
#: Number of pairs whose images are taken at once, which needs 40 MB at most; and of those whose
#: differences are multiplied at once, in the processor's cache.
_AT_ONCE, _MULTIPLIED = 8192, 256

Greys = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
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
    def join(cls, parts: Iterable[Pairs]) -> Pairs:
        """Return the pairs of all parts, one after the other."""
        columns = zip(*((one.first, one.second, one.kinds, one.bits) for one in parts), strict=True)
        return cls(*map(np.concatenate, columns))

    def select(self, rows: Indices | npt.NDArray[np.bool_]) -> Pairs:
        """Return some of the pairs."""
        return Pairs(self.first[rows], self.second[rows], self.kinds[rows], self.bits[rows])


def alike(greys: Greys, pairs: Pairs) -> npt.NDArray[np.bool_]:
    """Tell which pairs of images with similar hashes are alike.

    Args:
        greys: Grey images, uint8 [n, `GREY_BYTES`].
        pairs: The m pairs, with indices of grey images.

    Returns:
        bool [m].
    """
    found = (pairs.bits <= CERTAIN) & (pairs.kinds <= _MIRRORED)
    for kind in np.unique(pairs.kinds[~found]).tolist():
        (rows,) = np.nonzero(~found & (pairs.kinds == kind))
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            scores = similarity(greys, pairs.first[some], pairs.second[some], kind)
            found[some] = scores >= SIMILAR
    return found


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
    other = _differences(greys[second_images], kind)
    for start in range(0, len(scores), _MULTIPLIED):
        some = slice(start, start + _MULTIPLIED)
        scores[some] = np.einsum("ij,ij->i", upright[first_rows[some]], other[second_rows[some]])
    return scores


def _differences(greys: Greys, kind: int) -> npt.NDArray[np.float32]:
    """Differences between the cells of images, each row scaled to a length of 1."""
    pixels = greys.reshape(-1, GREY_SIDE, GREY_SIDE).astype(np.float32)
    if kind == _MIRRORED:
        pixels = pixels[:, :, ::-1]
    # Pair 0 of windows shows the whole image (kinds 0 and 1); kind 2 is pair 1, the first crop.
    down, across = divmod(max(kind - _MIRRORED, 0), len(WINDOWS))
    table = weights(_CELLS, GREY_SIDE).reshape(len(WINDOWS), _CELLS, GREY_SIDE)
    cells = table[down] @ pixels @ table[across].T
    steps = (np.diff(cells, axis=2), np.diff(cells, axis=1))
    rows = np.concatenate([step.reshape(len(cells), -1) for step in steps], axis=1)
    # The smallest length keeps the rows of plain images, which have no differences, at zero.
    rows /= np.maximum(np.sqrt((rows * rows).sum(axis=1, keepdims=True)), np.float32(1e-3))
    return rows
