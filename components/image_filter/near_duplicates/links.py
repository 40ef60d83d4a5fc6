"""Groups of images from the pairs that are near each other, in memory for these images alone."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

#: Number of pairs after which those that connect nothing new are dropped; 16 bytes each.
PENDING = 1 << 20

Indices = npt.NDArray[np.int64]


class Links:
    """Pairs of connected images. Of pairs that connect the same images, one is kept.

    The memory depends on the number of images that have a near-duplicate, neither on the number of
    all images nor on the number of pairs.

    Args:
        forests: What `forest` of other links returned.
    """

    def __init__(self, forests: Iterable[Indices] = ()) -> None:
        """Create the links.

        Args:
            forests: What `forest` of other links returned.
        """
        self._forest = np.empty((0, 2), np.int64)
        self._pending: list[Indices] = []
        self._size = 0
        for one in forests:
            self.add(one)

    def add(self, pairs: Indices) -> None:
        """Add pairs of indices, int64 [m, 2]."""
        self._pending.append(pairs)
        self._size += len(pairs)
        # A larger forest waits for more pairs, so that the time to join them stays proportional.
        if self._size > PENDING + len(self._forest):
            self.forest()

    def apart(self, one: Indices, other: Indices) -> npt.NDArray[np.bool_]:
        """Tell which pairs of images [m] and [m] are not connected yet."""
        images, firsts = self.groups()
        if not len(images):
            return np.ones(len(one), bool)

        def group(indices: Indices) -> Indices:
            # An image that is not linked is a group of its own, named by its index.
            places = np.minimum(np.searchsorted(images, indices), len(images) - 1)
            return np.where(images[places] == indices, firsts[places], indices)

        different: npt.NDArray[np.bool_] = group(one) != group(other)
        return different

    def forest(self) -> Indices:
        """Return one pair for each image except the first of its group: (first, image) [m, 2]."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        if self._pending:
            pairs = np.concatenate([self._forest, *self._pending])
            images, ends = np.unique(pairs, return_inverse=True)
            start, end = ends.reshape(-1, 2).T
            shape = (len(images), len(images))
            graph = coo_array((np.ones(len(pairs), bool), (start, end)), shape)
            labels = connected_components(graph, directed=False)[1]
            first = images[np.unique(labels, return_index=True)[1]][labels]
            forest = np.stack([first, images], axis=1)
            self._forest = forest[first != images]
            self._pending, self._size = [], 0
        return self._forest

    def groups(self) -> tuple[Indices, Indices]:
        """Return the images that are in a group, sorted, and the first image of each one's group.

        Returns:
            Two arrays int64 [m].
        """
        first, image = self.forest().T
        firsts = np.unique(first)
        images, groups = np.concatenate([firsts, image]), np.concatenate([firsts, first])
        order = np.argsort(images)
        return images[order], groups[order]
