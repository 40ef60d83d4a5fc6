"""How much images of a group are alike: what decides whether a part of their names is a family.

An image is described by what the inspection keeps of it: a small grey image, and the shares of its
colours and grey levels, which stay nearly the same where a picture is cut, turned or mirrored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from imgpipe.components.common.image_file.pixels import GREY_BYTES, GREY_SIDE, GREYS, colours_of
from imgpipe.models.arrays import Flags, Floats, Indices, PixelValues
from imgpipe.models.head.certainty import standard_error

_CELLS = 8  # cells of the grey image in each direction
_LEVELS = 16  # of grey
_AT_ONCE = 1024  # images that are described at once, which takes 10 MB
_PAIRS = 1200  # that are compared for each candidate, spread over at most a third as many groups
_MANY_PAIRS = 20_000  # the same where these leave it open whether a share is reached
_NEAR_SHARE = 0.02  # two standard errors of the share of these pairs
_PAIRS_OF_GROUP = 12  # that are compared to tell whether one group is alike
_OTHERS = 6  # images of other groups with which each pair is compared
_NEIGHBOURS = 32  # images before and after a group that are near, or as many as the group has
_FEWEST_GROUPS = 3  # fewer do not show how much groups differ
_BY_CHANCE = 0.5
#: Share of the groups that are less alike than by chance, up to which most groups are alike: half
#: of those that are unlike are below by accident. See docs/benchmarks.md, "Families".
_UNLIKE = 0.2
_PASSES = 0.05  # probability that a group that is unlike passes, where groups have to show it
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

    def reaches(self, share: float, chance: float, are_all: bool = False) -> bool:
        """Whether it is at least a share, and more than by chance.

        Student's test says so, and so does the error that random pairs have, of which each lies
        anywhere in the order of all: a few groups may differ less by accident. Where these groups
        are all that there are, and no sample of others, Student's test asks too much of a few.
        """
        from scipy.special import ndtri, stdtrit

        if self.groups < _FEWEST_GROUPS or self.share < share:
            return False
        measured = 0 if are_all else float(stdtrit(self.groups - 1, 1 - chance)) * self.error
        by_chance = float(ndtri(1 - chance)) / math.sqrt(12 * self.pairs)
        return self.share - max(measured, by_chance) > _BY_CHANCE


@dataclass(frozen=True)
class _Arranged:
    """All images by class, group and side, with k parts of groups that lie in one class.

    Attributes:
        order: The images, [n].
        sides: Side of each image, by its number, [n].
        start: Where each part begins in the order, [k].
        size: Number of its images, [k].
        class_size: Number of images of its class, [k].
        class_start: Where its class begins in the order, [k].
        sides_of: Number of sides of its images, [k].
    """

    order: Indices
    sides: Indices
    start: Indices
    size: Indices
    class_size: Indices
    class_start: Indices
    sides_of: Indices

    @property
    def usable(self) -> Indices:
        """The parts to compare: one of more than half of its class has too little beside it."""
        return np.flatnonzero((self.size > 1) & (2 * self.size <= self.class_size))


class Pictures:
    """Descriptions of n images: rows of length 1, without what the images of a class share.

    They are made of the table that the inspection keeps, uint8 [m, `ALL_BYTES`]. The row of the
    table of each image, and its class as a whole number, are [n]. What the images of a class share
    is that of each kind, where `kinds` says that they are of several, [n].
    """

    def __init__(
        self, table: PixelValues, places: Indices, labels: Indices, kinds: Indices | None = None
    ) -> None:
        parts = [
            _described(table[places[start : start + _AT_ONCE]])
            for start in range(0, len(places), _AT_ONCE)
        ]
        of_kind = labels
        if kinds is not None:
            of_kind = np.unique(np.stack([labels, kinds]), axis=1, return_inverse=True)[1].ravel()
        views = [_compared(np.concatenate(view), of_kind) for view in zip(*parts, strict=True)]
        self._rows = _unit(np.concatenate(views, axis=1))
        self._labels = labels

    def likeness(
        self,
        images: Indices,
        groups: Indices,
        apart: Indices | None = None,
        is_near: bool = False,
        across: bool = False,
        near_share: float = 0.0,
    ) -> Likeness:
        """Compare images of a group with others of their class.

        The images whose groups are known, and these groups, in the order of the groups' names, are
        [m]. Of `apart`, another division of them, only pairs that it separates count. With
        `is_near`, the others are from groups before and after in the order of the names, so that
        what changes slowly along them, such as the source, makes no group alike. `across` counts
        only pairs of images of two classes. If the share is about `near_share`, many more pairs
        are drawn, so that the draw does not decide.
        """
        random = np.random.default_rng(0)
        arranged = self._arranged(images, groups, apart, across)
        usable = arranged.usable
        if not len(usable):
            return Likeness()
        most = _PAIRS // 3
        if len(usable) > most:
            usable = random.choice(usable, most, replace=False)
        pairs = int(np.minimum(arranged.sides_of, arranged.size // 2)[usable].sum())
        of, shares = self._shares(arranged, np.resize(usable, _PAIRS), is_near, random)
        if len(of) and abs(shares.mean() - near_share) < _NEAR_SHARE:
            every = np.resize(arranged.usable, _MANY_PAIRS)
            of, shares = self._shares(arranged, every, is_near, np.random.default_rng(0))
        count = len(np.unique(of))
        if count < _FEWEST_GROUPS:
            return Likeness()
        return Likeness(float(shares.mean()), standard_error(shares, of), count, pairs)

    def alike(
        self, images: Indices, groups: Indices, is_near: bool = False, across: bool = False
    ) -> Flags:
        """Tell which images are in a group that is alike, bool [m], where groups are on average.

        If most groups are alike, all of them are, because single pairs vary. Otherwise a few that
        are very much alike say nothing of the others: then a group has to show it by itself. The
        arguments are those of `likeness`.
        """
        from scipy.special import ndtri

        random = np.random.default_rng(0)
        arranged = self._arranged(images, groups, None, across)
        usable = arranged.usable
        shares = np.zeros(len(arranged.size))
        at_once = _PAIRS // _PAIRS_OF_GROUP
        for part in np.split(usable, range(at_once, len(usable), at_once)):
            of, drawn = self._shares(arranged, part.repeat(_PAIRS_OF_GROUP), is_near, random)
            drawn_of = np.maximum(np.bincount(of, minlength=len(shares)), 1)
            shares += np.bincount(of, drawn, len(shares)) / drawn_of
        if np.mean(shares[usable] < _BY_CHANCE) <= _UNLIKE:
            return np.ones(len(images), np.bool_)
        by_chance = float(ndtri(1 - _PASSES)) / np.sqrt(12 * np.maximum(arranged.size // 2, 1))
        is_alike = np.zeros(len(self._labels), np.bool_)
        is_alike[arranged.order] = (shares - by_chance > _BY_CHANCE).repeat(arranged.size)
        return is_alike[images]

    def _arranged(
        self, images: Indices, groups: Indices, apart: Indices | None, across: bool
    ) -> _Arranged:
        """Sort all images by class, group and side."""
        labels = np.zeros_like(self._labels) if across else self._labels
        group_of = self._scattered(images, groups)
        sides = self._scattered(images, np.arange(len(images)) if apart is None else apart)
        sides = self._labels if across else sides
        order = np.lexsort((sides, group_of, labels))
        label, group = labels[order], group_of[order]
        start = np.flatnonzero(np.r_[True, (np.diff(label) != 0) | (np.diff(group) != 0)])
        is_new_side = np.diff(sides[order], prepend=-1) != 0
        is_new_side[start] = True
        return _Arranged(
            order,
            sides,
            start,
            size=np.diff(np.r_[start, len(order)]),
            class_size=np.bincount(labels)[label[start]],
            class_start=np.searchsorted(label, label[start]),
            sides_of=np.add.reduceat(is_new_side.astype(np.int64), start),
        )

    def _shares(
        self, arranged: _Arranged, of: Indices, is_near: bool, random: np.random.Generator
    ) -> tuple[Indices, Floats]:
        """Draw a pair of each of these groups, and compare it with images of other groups.

        Returned are the groups whose pair has two sides, and how often the pair was more alike.
        """
        order, start, size = arranged.order, arranged.start, arranged.size
        place = random.integers(0, size[of])
        first = order[start[of] + place]
        second = order[start[of] + (place + random.integers(1, size[of])) % size[of]]
        is_apart = arranged.sides[first] != arranged.sides[second]
        first, second, of = first[is_apart], second[is_apart], of[is_apart]
        within = self._products(first, second)
        shares = np.zeros(len(of))
        class_size, class_start = arranged.class_size, arranged.class_start
        for _ in range(_OTHERS):
            others = (class_size - size)[of]
            reach = np.minimum(np.maximum(size[of], _NEIGHBOURS), others) if is_near else others
            away = random.integers(0, reach)
            is_after = random.random(len(of)) < _BY_CHANCE
            beside = start[of] + np.where(is_after, size[of] + away, -1 - away)
            other = order[class_start[of] + (beside - class_start[of]) % class_size[of]]
            shares += (np.sign(within - self._products(first, other)) + 1) / (2 * _OTHERS)
        return of, shares

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
