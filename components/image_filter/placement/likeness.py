"""How much images of a group are alike: what decides whether a part of their names is a family.

An image is described by what the inspection keeps of it: a small grey image, and the shares of its
colours and grey levels, which stay nearly the same where a picture is cut, turned or mirrored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from imgpipe.components.common.image_file.pixels import GREY_BYTES, GREY_SIDE, GREYS, colours_of
from imgpipe.models.arrays import Floats, Indices, PixelValues
from imgpipe.models.head.certainty import standard_error

_CELLS = 8  # cells of the grey image in each direction
_LEVELS = 16  # of grey
_AT_ONCE = 1024  # images that are described at once, which takes 10 MB
_PAIRS = 1200  # that are compared for each candidate, spread over at most a third as many groups
_OTHERS = 6  # images of other groups with which each pair is compared
_NEIGHBOURS = 32  # images before and after a group that are near, or as many as the group has
_FEWEST_GROUPS = 3  # fewer do not show how much groups differ
_BY_CHANCE = 0.5
_TINY = np.float32(1e-6)  # keeps divisions finite


@dataclass(frozen=True)
class Likeness:
    """How often an image is more like one of its group than like one of another group.

    Attributes:
        share: The share of pairs, which come evenly from all groups; 0.5 for groups by chance.
        error: Its standard error; groups are independent, pairs of one group are not.
        groups: Number of groups that were compared.
        pairs: Number of pairs in them that have no image in common; if images are taken from
            different sides only, at most one for each side.
    """

    share: float = _BY_CHANCE
    error: float = 0.0
    groups: int = 0
    pairs: int = 0

    def reaches(self, share: float, chance: float) -> bool:
        """Whether it is at least a share, and more than by chance.

        Student's test says so, and so does the error that random pairs have, of which each lies
        anywhere in the order of all: a few groups may differ less by accident.
        """
        from scipy.special import ndtri, stdtrit

        if self.groups < _FEWEST_GROUPS or self.share < share:
            return False
        measured = float(stdtrit(self.groups - 1, 1 - chance)) * self.error
        by_chance = float(ndtri(1 - chance)) / math.sqrt(12 * self.pairs)
        return self.share - max(measured, by_chance) > _BY_CHANCE


class Pictures:
    """Descriptions of n images: rows of length 1, without what the images of a class share.

    They are made of the table that the inspection keeps, uint8 [m, `ALL_BYTES`]. The row of the
    table of each image, and its class as a whole number, are [n].
    """

    def __init__(self, table: PixelValues, places: Indices, labels: Indices) -> None:
        parts = [
            _described(table[places[start : start + _AT_ONCE]])
            for start in range(0, len(places), _AT_ONCE)
        ]
        views = [_compared(np.concatenate(view), labels) for view in zip(*parts, strict=True)]
        self._rows = _unit(np.concatenate(views, axis=1))
        self._labels = labels

    def likeness(
        self,
        images: Indices,
        groups: Indices,
        apart: Indices | None = None,
        is_near: bool = False,
        across: bool = False,
    ) -> Likeness:
        """Compare images of a group with others of their class.

        The images whose groups are known, and these groups, in the order of the groups' names, are
        [m]. Of `apart`, another division of them, only pairs that it separates count. With
        `is_near`, the others are from groups before and after in the order of the names, so that
        what changes slowly along them, such as the source, makes no group alike. `across` counts
        only pairs of images of two classes.
        """
        random = np.random.default_rng(0)
        labels = np.zeros_like(self._labels) if across else self._labels
        group_of = self._scattered(images, groups)
        sides = self._scattered(images, np.arange(len(images)) if apart is None else apart)
        sides = self._labels if across else sides
        order = np.lexsort((sides, group_of, labels))
        label, group = labels[order], group_of[order]
        start = np.flatnonzero(np.r_[True, (np.diff(label) != 0) | (np.diff(group) != 0)])
        size = np.diff(np.r_[start, len(order)])
        class_size = np.bincount(labels)[label[start]]
        class_start = np.searchsorted(label, label[start])
        # A group of more than half of its class has too little beside it.
        (usable,) = np.nonzero((size > 1) & (2 * size <= class_size))
        if not len(usable):
            return Likeness()
        most = _PAIRS // 3
        if len(usable) > most:
            usable = random.choice(usable, most, replace=False)
        is_new_side = np.diff(sides[order], prepend=-1) != 0
        is_new_side[start] = True
        sides_of = np.add.reduceat(is_new_side.astype(np.int64), start)
        pairs = int(np.minimum(sides_of, size // 2)[usable].sum())
        of = np.resize(usable, _PAIRS)
        place = random.integers(0, size[of])
        first = order[start[of] + place]
        second = order[start[of] + (place + random.integers(1, size[of])) % size[of]]
        is_apart = sides[first] != sides[second]
        first, second, of = first[is_apart], second[is_apart], of[is_apart]
        within = self._products(first, second)
        shares = np.zeros(len(of))
        for _ in range(_OTHERS):
            others = (class_size - size)[of]
            reach = np.minimum(np.maximum(size[of], _NEIGHBOURS), others) if is_near else others
            away = random.integers(0, reach)
            is_after = random.random(len(of)) < _BY_CHANCE
            beside = start[of] + np.where(is_after, size[of] + away, -1 - away)
            other = order[class_start[of] + (beside - class_start[of]) % class_size[of]]
            shares += (np.sign(within - self._products(first, other)) + 1) / (2 * _OTHERS)
        count = len(np.unique(of))
        if count < _FEWEST_GROUPS:
            return Likeness()
        return Likeness(float(shares.mean()), standard_error(shares, of), count, pairs)

    def _scattered(self, images: Indices, groups: Indices) -> Indices:
        """Return the group of each image, [n]; all others are a group by themselves."""
        group_of = np.arange(len(self._labels)) + len(groups)
        group_of[images] = groups
        return group_of

    def _products(self, first: Indices, second: Indices) -> Floats:
        products: Floats = np.einsum("ij,ij->i", self._rows[first], self._rows[second])
        return products


def _described(table: PixelValues) -> tuple[Floats, Floats, Floats]:
    """Return cells, grey levels and colours of images, float32 [n, d] each."""
    count = len(table)
    greys = table[:, GREYS : GREYS + GREY_BYTES]
    to_cells = np.eye(_CELLS, dtype=np.float32).repeat(GREY_SIDE // _CELLS, axis=0)
    cells = greys.astype(np.float32) @ np.kron(to_cells, to_cells)  # sums; the scale is no matter
    levels = greys // (256 // _LEVELS) + _LEVELS * np.arange(count)[:, None]
    shares = np.bincount(levels.ravel(), minlength=_LEVELS * count) / GREY_BYTES
    tones = np.sqrt(shares.reshape(count, _LEVELS)).astype(np.float32)
    return cells, tones, colours_of(table).astype(np.float32)


def _compared(view: Floats, labels: Indices) -> Floats:
    """Turn rows into standardised ones without the mean of their class, of length 1."""
    view -= view.mean(axis=0)
    view /= view.std(axis=0) + _TINY
    sums = np.zeros((int(labels.max(initial=0)) + 1, view.shape[1]), np.float32)
    np.add.at(sums, labels, view)
    means = sums / np.maximum(np.bincount(labels), 1)[:, None]
    view -= means.astype(np.float32)[labels]
    return _unit(view)


def _unit(rows: Floats) -> Floats:
    rows /= np.maximum(np.sqrt(np.einsum("ij,ij->i", rows, rows)), _TINY)[:, None]
    return rows
