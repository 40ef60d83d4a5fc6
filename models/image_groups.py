"""Groups of images that must be on one side of every division, such as the frames of one film.

A head that was trained on one frame of a film answers for the next one from memory. So an estimate
from folds is honest only if all images of a source's group, and all near-duplicates, are in the
same fold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

#: File of the feature bank with the groups of near-duplicates, a JSON list of lists of hashes.
NEAR_FILE: Final = "near_groups.json"

Hashes = npt.NDArray[np.bytes_]


@dataclass(frozen=True)
class ImageGroups:
    """The groups of some rows.

    Attributes:
        names: Name of the group of each row, bytes [n]: the smallest content hash in it. An image
            without a group is a group by itself.
        separated: Number of near-duplicates in groups that were not kept together.
    """

    names: Hashes
    separated: int


def find_groups(
    hashes: Hashes, sources: Hashes, near: Iterable[Sequence[bytes]], largest: int
) -> ImageGroups:
    """Finds the groups of images that must not be divided.

    Groups of the source are always kept together. Near-duplicates are kept together only while the
    merged group is not larger than `largest`: in a set of similar images, chains of near-duplicates
    can connect all images, and a single fold of all images would evaluate nothing.

    Args:
        hashes: Content hash of each row, [n]. An image may have several rows.
        sources: Group that the source gives, [n]; b"" for none.
        near: Groups of near-duplicates, as content hashes.
        largest: Number of images in a fold.
    """
    images, rows = np.unique(hashes, return_inverse=True)
    group_of = np.arange(len(images))
    _, source = np.unique(sources, return_inverse=True)
    given = sources != b""
    first = np.full(len(hashes) + 1, len(images))
    np.minimum.at(first, source[given], rows[given])
    group_of[rows[given]] = first[source[given]]
    merged, separated = _merged(group_of, _positions(images, near), largest)
    while not np.array_equal(further := merged[merged], merged):
        merged = further
    names = images[merged[group_of]][rows] if len(images) else hashes
    return ImageGroups(names, separated)


def _merged(
    group_of: npt.NDArray[np.int64], near: list[list[int]], largest: int
) -> tuple[npt.NDArray[np.int64], int]:
    """Merges the groups that near-duplicates connect.

    Args:
        group_of: Group of each image, as the index of its first image.
        near: Indices of the images of each group of near-duplicates.
        largest: Largest number of images that near-duplicates may connect.

    Returns:
        For each group another group that it is merged into, or itself; and the number of
        near-duplicates that stay separated.
    """
    parents = np.arange(len(group_of))
    sizes = np.bincount(group_of, minlength=len(group_of))
    separated = 0
    for members in near:
        tops = {_top(parents, int(group_of[index])) for index in members}
        size = int(sum(sizes[top] for top in tops))
        if len(tops) > 1 and size > largest:
            separated += len(members)
            continue
        lowest = min(tops)
        parents[list(tops)] = lowest
        sizes[lowest] = size
    return parents, separated


def _top(parents: npt.NDArray[np.int64], group: int) -> int:
    while parents[group] != group:
        group = int(parents[group])
    return group


def _positions(images: npt.NDArray[Any], near: Iterable[Sequence[bytes]]) -> list[list[int]]:
    """Indices of the images of each group, without groups of fewer than two; small ones first."""
    return sorted(_known(images, near), key=lambda group: (len(group), group))


def _known(images: npt.NDArray[Any], near: Iterable[Sequence[bytes]]) -> Iterator[list[int]]:
    for group in near:
        wanted = np.array(sorted(set(group)), "S")
        found = np.searchsorted(images, wanted)
        there = found < len(images)
        there[there] = images[found[there]] == wanted[there]
        if there.sum() > 1:
            yield found[there].tolist()
