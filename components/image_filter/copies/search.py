"""Search for groups of near-duplicates among all images.

The hashes of whole images are compared with those of mirrored images and of each crop, and the
middles of the images with altered ones (`altered`). Every pair that connects two images was
confirmed by their grey images, so pairs may only be missed. The radius is the same for every set.

The bits of a hash say which of two neighbouring cells is darker, but not by how much. In front of a
plain background most differences are small, so that the hashes of different images may be similar.
`Hashes.alike` compares the differences themselves, in both directions. What copies and different
images reach is in docs/benchmarks.md, "Constants of the code".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from imgpipe.components.common.image_file.pixels import (
    BYTES,
    GREY_BYTES,
    GREY_SIDE,
    GREYS,
    KINDS,
    SIDE,
    WINDOWS,
    weights,
)
from imgpipe.components.image_filter.copies.altered import (
    VIEWS,
    ImageMiddles,
    steps_between,
    unit_rows,
)
from imgpipe.components.image_filter.copies.hamming import (
    Effort,
    Pairs,
    Words,
    neighbours,
    pairs_of,
)
from imgpipe.models.arrays import Flags, Floats, Indices, PixelValues

_OF_WHOLE_IMAGES = Effort(orders=32, window=16)
#: A cropped copy is similar to several crops.
_OF_A_CROP = Effort(orders=12, window=8)
_CONFIRMED = 1 << 14  # pairs that are confirmed at once
#: Correlation of the differences between neighbouring cells from which two images are alike.
_SIMILAR = 0.9
#: Hashes of whole images that differ in at most so many bits belong to copies, whatever they show:
#: saving again changes fewer bits, while the grey of a much brighter copy may differ.
_CERTAIN = 8
_MIRRORED = 1  # kind of the hash of the mirror image; upright is 0, and those of the crops follow
#: Number of pairs whose images are taken at once, which needs 40 MB at most; and of those whose
#: differences are multiplied at once, in the processor's cache.
_AT_ONCE = 8192
_MULTIPLIED = 256


@dataclass(frozen=True)
class Hashes:
    """The perceptual hashes of n images.

    Attributes:
        table: As `perceptual_hashes` returns them, uint8 [n, `ALL_BYTES`].
    """

    table: PixelValues

    def kind(self, number: int) -> Words:
        """Return the hashes of one kind: uint64 [n, 4]."""
        column = self.table[:, number * BYTES : (number + 1) * BYTES]
        return np.ascontiguousarray(column).view(np.uint64)

    def alike(self, pairs: Pairs) -> Flags:
        """Tell which pairs of images with similar hashes are alike, bool [m]."""
        is_alike: Flags = (pairs["bits"] <= _CERTAIN) & (pairs["kind"] <= _MIRRORED)
        for kind in np.unique(pairs["kind"][~is_alike]).tolist():
            (rows,) = np.nonzero(~is_alike & (pairs["kind"] == kind))
            for part in np.split(rows, range(_AT_ONCE, len(rows), _AT_ONCE)):
                compared = pairs[part]
                scores = self._similarity(compared["first"], compared["second"], kind)
                is_alike[part] = scores >= _SIMILAR
        return is_alike

    def _similarity(self, first: Indices, second: Indices, kind: int) -> Floats:
        """Return the similarity of upright images with others that are seen in one kind, [m].

        The differences of an image are computed once, in however many pairs it is.
        """
        scores = np.empty(len(first), np.float32)
        first_images, first_rows = np.unique(first, return_inverse=True)
        second_images, second_rows = np.unique(second, return_inverse=True)
        upright = self._differences(first_images, 0)
        seen = self._differences(second_images, kind)
        for start in range(0, len(scores), _MULTIPLIED):
            part = slice(start, start + _MULTIPLIED)
            scores[part] = np.einsum("ij,ij->i", upright[first_rows[part]], seen[second_rows[part]])
        return scores

    def _differences(self, images: Indices, kind: int) -> Floats:
        """Return the differences between the cells of images, [m, d], see `unit_rows`."""
        pixels = self.greys[images].reshape(-1, GREY_SIDE, GREY_SIDE).astype(np.float32)
        if kind == _MIRRORED:
            pixels = pixels[:, :, ::-1]
        # Pair 0 of windows shows the whole image (kinds 0 and 1); kind 2 is pair 1, the first crop.
        down, across = divmod(max(kind - _MIRRORED, 0), len(WINDOWS))
        table = weights(SIDE + 1, GREY_SIDE).reshape(len(WINDOWS), SIDE + 1, GREY_SIDE)
        cells = table[down] @ pixels @ table[across].T
        return unit_rows(steps_between(cells))

    @property
    def greys(self) -> PixelValues:
        """The grey images, uint8 [n, `GREY_BYTES`]."""
        return self.table[:, GREYS : GREYS + GREY_BYTES]


@dataclass(frozen=True)
class NearDuplicates:
    """The near-duplicates among m contents, by their numbers.

    Attributes:
        pictures: What the inspection keeps of each, uint8 [m, `ALL_BYTES`].
        groups: Number of the group of each, from 1 on; 0 where there is none, [m].
        altered: How an image was altered, such as "upside down", by the number of the other image
            and that of the image.
    """

    pictures: PixelValues
    groups: Indices
    altered: Mapping[int, Mapping[int, str]]


def find_near_duplicates(pictures: PixelValues, radius: int) -> NearDuplicates:
    """Find the near-duplicates among contents.

    Args:
        pictures: What the inspection keeps of each, uint8 [m, `ALL_BYTES`]; zeros for what cannot
            be compared.
        radius: See `search`; 0 finds none.
    """
    groups = np.zeros(len(pictures), np.int64)
    altered: dict[int, dict[int, str]] = defaultdict(dict)
    if not radius:
        return NearDuplicates(pictures, groups, altered)
    (comparable,) = np.nonzero(pictures.any(axis=1))
    compared = pictures if len(comparable) == len(pictures) else pictures[comparable]
    table = Hashes(compared)
    firsts = search(table, radius)
    links = _links(ImageMiddles(table.greys, compared[:, -1]), firsts)
    firsts = _joined(firsts, links)
    links = links[np.argsort(-links["bits"], kind="stable")]  # the nearest view comes last
    ends = comparable[np.stack([links["first"], links["second"]])].T.tolist()
    for (first, second), view in zip(ends, links["kind"].tolist(), strict=True):
        altered[first][second] = altered[second][first] = VIEWS[view].name
    sizes = np.bincount(firsts, minlength=len(firsts))
    groups[comparable] = np.where(sizes[firsts] > 1, 1 + firsts, 0)
    return NearDuplicates(pictures, groups, altered)


def _links(middles: ImageMiddles, firsts: Indices) -> Pairs:
    """Return the pairs of altered copies that are not in one group already."""
    links = [pairs_of(0, 0, 0, np.empty(0, np.int64))]
    for pairs in middles.neighbours():
        apart = _unique(_in_two_groups(pairs, firsts))
        links.append(apart[middles.alike(apart)])
    return np.concatenate(links)


def search(hashes: Hashes, radius: int) -> Indices:
    """Find the groups of connected images.

    Args:
        hashes: The hashes of n images.
        radius: Distance in bits. Two images are connected if the upright hash of one is within this
            distance of any hash of the other, and their grey images are alike.

    Returns:
        For each image the index of the first image of its group, int64 [n].
    """
    upright = hashes.kind(0)
    firsts = np.arange(len(upright))
    if len(upright) < 2:
        return firsts
    for number in range(KINDS):
        effort = _OF_A_CROP if number > 1 else _OF_WHOLE_IMAGES
        for pairs in neighbours(upright, hashes.kind(number), number, radius, effort):
            firsts = _confirmed(pairs, hashes, firsts)
    return firsts


def _confirmed(pairs: Pairs, hashes: Hashes, firsts: Indices) -> Indices:
    """Join the groups of pairs whose grey images are alike, the nearest first."""
    pairs = _unique(pairs)
    pairs = pairs[np.argsort(pairs["bits"], kind="stable")]
    for part in np.split(pairs, range(_CONFIRMED, len(pairs), _CONFIRMED)):
        apart = _in_two_groups(part, firsts)
        firsts = _joined(firsts, apart[hashes.alike(apart)])
    return firsts


def _in_two_groups(pairs: Pairs, firsts: Indices) -> Pairs:
    """Return the pairs whose images are not in one group already."""
    return pairs[firsts[pairs["first"]] != firsts[pairs["second"]]]


def _unique(pairs: Pairs) -> Pairs:
    """Return each pair of a kind once."""
    pairs = pairs[np.lexsort((pairs["kind"], pairs["second"], pairs["first"]))]
    return pairs[np.r_[True, pairs[1:] != pairs[:-1]]] if len(pairs) else pairs


def _joined(firsts: Indices, pairs: Pairs) -> Indices:
    """Return the first image of each image's group, when these pairs are connected too."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(pairs):
        return firsts
    ends = np.stack([firsts[pairs["first"]], firsts[pairs["second"]]])
    groups, (start, end) = np.unique(ends, return_inverse=True)
    shape = (len(groups), len(groups))
    graph = coo_array((np.ones(len(pairs), bool), (start, end)), shape)
    parts = connected_components(graph, directed=False)[1]
    now = np.arange(len(firsts))
    now[groups] = groups[np.unique(parts, return_index=True)[1]][parts]
    joined: Indices = now[firsts]
    return joined
