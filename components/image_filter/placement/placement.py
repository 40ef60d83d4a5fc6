"""The placement of images in splits, when all images that passed the checks are known.

`SplitRule` draws the split of each image on its own. Where it decides, the images that must be
together (near-duplicates, also over several steps, and the images of one group) are then placed in
one split, and classes with too few images in validation or test get more from train. The result
depends on the set of images alone, not on their order. One worker places all images; it needs
450 bytes of memory for each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from imgpipe.components.common.image_row import ImageRow
from imgpipe.components.common.splits import SplitRule
from imgpipe.components.image_filter.judge.single_image import move
from imgpipe.models import names
from imgpipe.models.arrays import Array, Indices
from imgpipe.models.settings.override import Override

_ALL = range(len(names.SPLITS))
_TRAIN = names.SPLITS.index(names.TRAIN)
_TEST = names.SPLITS.index(names.TEST)
#: Share of the images of a class that no placement takes away from train.
_TRAIN_SHARE = 0.5
_ROW = np.dtype(
    [
        ("content", "S32"),  # SHA-256 of the file
        ("group", "S32"),  # the key by which the rule draws
        ("near", "S32"),  # the group of near-duplicates
        ("draw", "f8"),  # the draw that decided the split
        ("order", "f8"),  # a second draw, by which the members of a group are ordered
        ("label", "i4"),
        ("split", "i1"),
        ("relabelled", "?"),  # whether an override gave the label, which does not hold in test
    ]
)


def place(
    rows: Iterable[ImageRow],
    rule: SplitRule,
    override_of: Callable[[str], Override | None],
) -> None:
    """Move images to other splits, where the rule, which has drawn the splits, decides about them.

    The images passed the checks, and have their families and groups. `override_of` returns what a
    person decided about the image with a hash.
    """
    drawn = [row for row in rows if row.split in rule.drawn and row.image_hash]
    table = np.fromiter((_values(row, rule) for row in drawn), _ROW, len(drawn))
    # Byte-identical files count once, and their order must not matter.
    relabelled = table["content"][table["relabelled"]]
    table = table[np.unique(table[["content", "group", "label"]], return_index=True)[1]]
    # Copies with several labels are rejected, so they count for no minimum. Where an override has
    # given one of them its label, it gives all of them this label, once they are in one split.
    labels = np.unique(table[["content", "label"]])["content"]
    contents, counts = np.unique(labels, return_counts=True)
    conflicts = np.setdiff1d(contents[counts > 1], relabelled)
    table = table[~np.isin(table["content"], conflicts)]
    if not len(table):
        return
    fixed = np.isin(table["content"], relabelled)
    units = connected(table["content"], table["group"], table["near"])
    placement = _Placement(table, units, fixed)
    placement.keep_together()
    placement.fill(rule.minimum)
    places = dict(zip(_contents(table), range(len(table)), strict=True))
    for row in drawn:
        place = places.get(row.image_hash)
        if place is None:
            continue
        split = names.SPLITS[placement.splits[place]]
        if split != row.split:
            move(row, split, override_of(row.image_hash))


def _values(row: ImageRow, rule: SplitRule) -> tuple[Any, ...]:
    """Return the values of `_ROW` of an image; a family is in the split that the rule draws."""
    content = bytes.fromhex(row.image_hash)
    split = row.split
    if row.is_family:
        split = rule.assign(row.image_hash, names.TRAIN if rule.given else None, row.group)
    key = rule.key(row.image_hash, row.group)
    group = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
    return (
        content,
        group if row.group else content,
        str(row.near_group).encode() if row.near_group else content,
        rule.draw(key),
        rule.draw(f"order:{key}"),
        row.label_index,
        names.SPLITS.index(split),
        row.is_relabelled,
    )


def _contents(table: Array) -> Iterator[str]:
    """Yield the content hash of each row in hexadecimal digits."""
    # NumPy drops the zeros at the end of a value of the type S.
    return (content.ljust(32, b"\0").hex() for content in table["content"].tolist())


def connected(*columns: Array) -> Indices:
    """Return the number of the unit of each image, [n]; equal values of a column connect images."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(columns[0])
    # Each image is linked to the first one with the same value of each column.
    ends = []
    for column in columns:
        _, first, inverse = np.unique(column, return_index=True, return_inverse=True)
        ends.append(first[inverse])
    start = np.tile(np.arange(count), len(columns))
    links = (np.ones(len(start), bool), (start, np.concatenate(ends)))
    units = connected_components(coo_array(links, (count, count)), directed=False)[1]
    return np.asarray(units, np.int64)


class _Placement:
    """The splits of all images, as indices in `names.SPLITS`, while they are decided."""

    def __init__(self, table: Array, units: Indices, fixed: npt.NDArray[np.bool_]) -> None:
        self._units = units
        self._labels = np.unique(table["label"], return_inverse=True)[1]
        self._fixed = fixed  # images that are not moved to test, where overrides do not hold
        by_class = np.argsort(self._labels, kind="stable")
        self._of_class = np.split(by_class, np.cumsum(np.bincount(self._labels))[:-1])
        self._class_sizes = self._count(slice(None))
        order = np.lexsort((table["content"], table["order"], units))
        ends = np.cumsum(np.bincount(units))
        first = order[np.r_[0, ends[:-1]]]  # by unit
        self._by_unit = order
        self._ends = ends
        self._draws = table["draw"][first]
        self._drawn = table["split"][first]
        self.splits = table["split"].astype(np.int64)

    def _count(self, images: Indices | npt.NDArray[np.bool_] | slice) -> Indices:
        """Return the number of these images of each class."""
        return np.bincount(self._labels[images], minlength=int(self._labels.max()) + 1)

    def keep_together(self) -> None:
        """Place each unit in the split of the member that comes first in the second order.

        The member with the smallest draw would place most large units in validation. A unit with
        more than half of the images of a class stays in train, and so does one with a relabelled
        image that would come to test.
        """
        classes = len(self._class_sizes)
        keys = self._units * classes + self._labels
        parts, counts = np.unique(keys, return_counts=True)
        most = counts > (1 - _TRAIN_SHARE) * self._class_sizes[parts % classes]
        drawn = self._drawn.astype(np.int64)
        drawn[parts[most] // classes] = _TRAIN
        fixed = np.unique(self._units[self._fixed])
        drawn[fixed[drawn[fixed] == _TEST]] = _TRAIN
        large = np.bincount(self._units)[self._units] > 1
        self.splits[large] = drawn[self._units[large]]

    def fill(self, minimum: Mapping[str, int]) -> None:
        """Move units until each class has its minimum in each split.

        A split gets units from train, as long as train keeps half of the images of the class, and
        then from other splits that have more than their minimum. Units with a smaller draw are
        moved first.
        """
        if not minimum:
            return
        floors = self._floors(minimum)
        counts = np.stack([self._count(self.splits == split) for split in _ALL])
        wanted = [names.SPLITS.index(name) for name in (*minimum, names.TRAIN)]
        self._fill_splits(wanted, floors, counts, floors)
        if names.TEST not in minimum:
            return
        # A class of two groups has none for test: it gives test up for the other splits.
        others = [split for split in wanted if split != _TEST]
        needed = np.minimum(floors, minimum.get(names.VALIDATION, 1))
        lacks_others = (counts[others] < needed[others]).any(axis=0)  # by class
        floors[_TEST, lacks_others] = 0
        self._fill_splits(others, needed, counts, floors)

    def _floors(self, minimum: Mapping[str, int]) -> Indices:
        """Return the number of images of each class that a split should have, [splits, classes].

        Train keeps half of the images of a class. A class that is too small for a single test
        image besides needs none, because no class is refused for it.
        """
        floors = np.zeros((len(names.SPLITS), len(self._class_sizes)), np.int64)
        for name, least in minimum.items():
            floors[names.SPLITS.index(name)] = least
        floors[_TRAIN] = np.ceil(_TRAIN_SHARE * self._class_sizes)
        may_lack_test = minimum.get(names.TEST) == 1
        if may_lack_test:
            is_too_small = floors.sum(axis=0) > self._class_sizes
            floors[_TEST, is_too_small] = 0
        return floors

    def _fill_splits(
        self, splits: Sequence[int], needed: Indices, counts: Indices, floors: Indices
    ) -> None:
        """Move units to these splits, in order, in which classes have fewer images than needed.

        The numbers of images are [splits, classes]: `counts` is kept up to date, and a split that
        gives some away keeps `floors`.
        """
        for split in splits:
            for label in np.nonzero(counts[split] < needed[split])[0].tolist():
                self._fill_class(split, label, counts, floors)

    def _fill_class(self, split: int, label: int, counts: Indices, floors: Indices) -> None:
        """Move units with images of a class to a split, until the class has enough there."""
        for donor in _ALL:
            if donor == split:
                continue
            for unit in self._units_with(label, donor):
                if counts[split, label] >= floors[split, label]:
                    return
                members = self._members(unit)
                if split == _TEST and self._fixed[members].any():
                    continue
                taken = self._count(members)
                left = counts[donor] - taken
                # A unit may hold several classes, and none of them may fall below its minimum.
                if (left >= floors[donor])[taken > 0].all():
                    self.splits[members] = split
                    counts[donor] = left
                    counts[split] += taken

    def _units_with(self, label: int, split: int) -> list[int]:
        """Return the units of a split with images of a class, those with a smaller draw first."""
        of_class = self._of_class[label]
        in_split = of_class[self.splits[of_class] == split]
        units = np.unique(self._units[in_split])
        by_draw = np.argsort(self._draws[units], kind="stable")
        return [int(unit) for unit in units[by_draw]]

    def _members(self, unit: int) -> Indices:
        """Return the images of a unit."""
        start = self._ends[unit - 1] if unit else 0
        return self._by_unit[start : self._ends[unit]]
