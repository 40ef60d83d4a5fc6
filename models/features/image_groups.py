"""Groups of images that must be on one side of every division, such as the frames of one film.

A head that was trained on one frame of a film answers for the next one from memory. So an estimate
from folds is honest only if all images of a source's group, and all near-duplicates, are in the
same fold.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def find_groups(
    hashes: npt.NDArray[np.bytes_],
    sources: npt.NDArray[np.bytes_],
    near: npt.NDArray[np.int64],
    largest: int,
) -> tuple[npt.NDArray[np.bytes_], int]:
    """Find the groups of images that must not be divided.

    Groups of the source are always kept together. Near-duplicates are kept together only while the
    merged group is not larger than `largest`: in a set of similar images, chains of near-duplicates
    can connect all images, and a single fold of all images would evaluate nothing.

    Args:
        hashes: Content hash of each row, [n]. An image may have several rows.
        sources: Group that the source gives, [n]; b"" for none.
        near: Number of the group of near-duplicates, [n]; 0 for none.
        largest: Number of images in a fold.

    Returns:
        The name of the group of each row, [n], which is the smallest content hash in it; and the
        number of near-duplicates in groups that were not kept together. An image without a group is
        a group by itself.
    """
    images, image = np.unique(hashes, return_inverse=True)
    group_of = _of_sources(image, sources)
    merged, separated = _merged(group_of, _of_near(image, near), largest)
    while not np.array_equal(further := merged[merged], merged):  # follows chains to their end
        merged = further
    return images[merged[group_of]][image], separated


def _of_sources(
    images: npt.NDArray[np.integer[Any]], sources: npt.NDArray[np.bytes_]
) -> npt.NDArray[np.int64]:
    """Group images by what the source gives, as in `find_groups`.

    Returns:
        Group of each image, as the number of its first image.
    """
    group_of = np.arange(int(images.max(initial=-1)) + 1)
    given = np.flatnonzero(sources != b"")
    # Images are numbered in the order of their hashes, so the smallest number is the smallest hash.
    _, source = np.unique(sources[given], return_inverse=True)
    first = np.full(int(source.max(initial=-1)) + 1, len(group_of))
    np.minimum.at(first, source, images[given])
    group_of[images[given]] = first[source]
    return group_of


def _merged(
    group_of: npt.NDArray[np.int64], near: list[list[int]], largest: int
) -> tuple[npt.NDArray[np.int64], int]:
    """Merge the groups of images that near-duplicates connect, up to `largest` images.

    Groups and images are numbers, and the number of a group is that of its first image.

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


def _of_near(images: npt.NDArray[np.integer[Any]], near: npt.NDArray[np.int64]) -> list[list[int]]:
    """Return the images of each group of near-duplicates of several; small groups come first.

    Args:
        images: Number of the image of each row, [n].
        near: Number of its group of near-duplicates, [n]; 0 for none.
    """
    rows = np.flatnonzero(near)
    groups, members = np.unique(np.stack([near[rows], images[rows]]), axis=1)
    parts = np.split(members, np.flatnonzero(np.diff(groups)) + 1)
    several = (part.tolist() for part in parts if len(part) > 1)
    return sorted(several, key=lambda group: (len(group), group))
