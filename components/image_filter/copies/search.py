"""Search for groups of near-duplicates among all images.

The hashes of whole images are compared with those of mirrored images and of each crop, and the
middles of the images with altered ones (`altered`). Every pair that connects two images was
confirmed by their grey images, so pairs may only be missed. The radius is the same for every set.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgpipe.components.common.image_file.pixels import (
    ALL_BYTES,
    BYTES,
    GREY_BYTES,
    KINDS,
)
from imgpipe.components.image_filter.copies.altered import VIEWS, ImageMiddles
from imgpipe.components.image_filter.copies.hamming import (
    Effort,
    HashPairs,
    Words,
    alike,
    neighbours,
)
from imgpipe.models.names.feature_names import Indices

_OF_WHOLE_IMAGES = Effort(orders=32, window=16)
#: A cropped copy is similar to several crops.
_OF_A_CROP = Effort(orders=12, window=8)
_CONFIRMED = 1 << 14  # pairs that are confirmed at once


@dataclass(frozen=True)
class Hashes:
    """The perceptual hashes of n images.

    Attributes:
        table: As `perceptual_hashes` returns them, uint8 [n, `ALL_BYTES`].
    """

    table: npt.NDArray[np.uint8]

    def kind(self, number: int) -> Words:
        """Return the hashes of one kind: uint64 [n, 4]."""
        column = self.table[:, number * BYTES : (number + 1) * BYTES]
        return np.ascontiguousarray(column).view(np.uint64)

    def alike(self, pairs: HashPairs) -> npt.NDArray[np.bool_]:
        """Tell which pairs of images with similar hashes are alike, bool [m]."""
        return alike(self.greys, pairs)

    @property
    def greys(self) -> npt.NDArray[np.uint8]:
        """The grey images, uint8 [n, `GREY_BYTES`]."""
        start = KINDS * BYTES
        return self.table[:, start : start + GREY_BYTES]

    def middles(self) -> ImageMiddles:
        """Return the middles of the images."""
        return ImageMiddles(self.greys, self.table[:, -1])


@dataclass(frozen=True)
class NearDuplicates:
    """The near-duplicates among some images.

    Attributes:
        groups: Number of the group by the name of each image that has near-duplicates.
        altered: How an image was altered, such as "upside down", by the name of the other image
            and that of the image.
        hashes: Perceptual hashes by the name of each image that has near-duplicates.
    """

    groups: Mapping[str, int]
    altered: Mapping[str, Mapping[str, str]]
    hashes: Mapping[str, bytes]


def find_near_duplicates(
    images: Collection[str], hashes: Iterable[bytes], radius: int
) -> NearDuplicates:
    """Find the near-duplicates among images.

    Args:
        images: Names of the images; what has the same name is one image.
        hashes: Perceptual hashes of each, in the same order; no bytes, or zeros, for an image that
            cannot be compared. One is read at a time, so that memory holds all of them once.
        radius: See `search`.
    """
    names = sorted({*images})
    places = {name: place for place, name in enumerate(names)}
    rows = np.zeros((len(names), ALL_BYTES), np.uint8)
    for name, value in zip(images, hashes, strict=False):
        if value:
            rows[places[name]] = np.frombuffer(value, np.uint8)
    (comparable,) = np.nonzero(rows.any(axis=1))
    if len(comparable) < len(names):
        rows = rows[comparable]
        names = [names[place] for place in comparable.tolist()]
    table = Hashes(rows)
    firsts = search(table, radius)
    links = _links(table.middles(), firsts)
    firsts = _joined(firsts, links)
    sizes = np.bincount(firsts, minlength=len(firsts))
    (grouped,) = np.nonzero(sizes[firsts] > 1)
    altered: dict[str, dict[str, str]] = {}
    links = links.select(np.argsort(-links.bits, kind="stable"))  # the nearest view comes last
    for first, second, view in zip(links.first, links.second, links.kinds, strict=True):
        first_name = names[first]
        second_name = names[second]
        altered.setdefault(first_name, {})[second_name] = VIEWS[view].name
        altered.setdefault(second_name, {})[first_name] = VIEWS[view].name
    groups = {names[index]: int(firsts[index]) for index in grouped.tolist()}
    hashes_of = {names[index]: table.table[index].tobytes() for index in grouped.tolist()}
    return NearDuplicates(groups, altered, hashes_of)


def _links(middles: ImageMiddles, firsts: Indices) -> HashPairs:
    """Return the pairs of altered copies that are not in one group already."""
    links = [HashPairs.none()]
    for pairs in middles.neighbours():
        apart = pairs.select(firsts[pairs.first] != firsts[pairs.second])
        apart = _unique(apart)
        links.append(apart.select(middles.alike(apart)))
    return HashPairs.join(links)


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


def _confirmed(pairs: HashPairs, hashes: Hashes, firsts: Indices) -> Indices:
    """Join the groups of pairs whose grey images are alike, the nearest first."""
    pairs = _unique(pairs)
    pairs = pairs.select(np.argsort(pairs.bits, kind="stable"))
    for start in range(0, len(pairs), _CONFIRMED):
        part = pairs.select(np.arange(start, min(start + _CONFIRMED, len(pairs))))
        part = part.select(firsts[part.first] != firsts[part.second])
        firsts = _joined(firsts, part.select(hashes.alike(part)))
    return firsts


def _unique(pairs: HashPairs) -> HashPairs:
    """Return each pair of a kind once."""
    low = np.minimum(pairs.first, pairs.second)
    high = np.maximum(pairs.first, pairs.second)
    order = np.lexsort((pairs.bits, pairs.first > pairs.second, pairs.kinds, high, low))
    pairs = pairs.select(order)
    return pairs.select(_changes(pairs.first, pairs.second, pairs.kinds))


def _joined(firsts: Indices, pairs: HashPairs) -> Indices:
    """Return the first image of each image's group, when these pairs are connected too."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(pairs):
        return firsts
    ends = np.stack([firsts[pairs.first], firsts[pairs.second]])
    groups, (start, end) = np.unique(ends, return_inverse=True)
    shape = (len(groups), len(groups))
    graph = coo_array((np.ones(len(pairs), bool), (start, end)), shape)
    parts = connected_components(graph, directed=False)[1]
    now = np.arange(len(firsts))
    now[groups] = groups[np.unique(parts, return_index=True)[1]][parts]
    joined: Indices = now[firsts]
    return joined


def _changes(*columns: Indices) -> npt.NDArray[np.bool_]:
    """Tell which rows of sorted columns differ from the row before."""
    new = np.ones(len(columns[0]), bool)
    if len(new):
        new[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return new
