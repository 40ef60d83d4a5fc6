"""The placement of images in splits, when all images that passed the checks are known.

`SplitRule` draws the split of each image on its own. Where it decides, the images that must be
together (near-duplicates, also over several steps, and the images of one group) are then placed in
one split, and classes with too few images in validation or test get more from train. The result
depends on the set of images alone, not on their order. One worker places all images; it needs
450 bytes of memory for each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from imgpipe.components.common.splits import SplitRule
from imgpipe.models import names
from imgpipe.models.arrays import Array, Flags, Indices

if TYPE_CHECKING:
    import pandas as pd

_ALL = range(len(names.SPLITS))
_TRAIN = names.SPLITS.index(names.TRAIN)
_TEST = names.SPLITS.index(names.TEST)
#: Share of the images of a class that no placement takes away from train.
_TRAIN_SHARE = 0.5


def place(images: pd.DataFrame, rule: SplitRule) -> None:
    """Move images to other splits, where the rule, which has drawn the splits, decides about them.

    Args:
        images: The table of the images that passed the checks, with their families and groups, as
            `engine.belongings` completes it.
        rule: The rule.
    """
    is_drawn = images["split"].isin(rule.drawn)
    # Byte-identical files count once, and their order must not matter.
    table = images[is_drawn].drop_duplicates(["content", "group", "label_index"])
    table = table.sort_values(["content", "group", "label_index"])
    # Copies with several labels are rejected, so they count for no minimum.
    labels = table.groupby("content")["label_index"].transform("nunique")
    table = table[labels == 1]
    if not len(table):
        return
    placement = _Placement(table, rule)
    placement.keep_together()
    placement.fill(rule.minimum)
    splits = np.array(names.SPLITS, np.object_)[placement.splits]
    split_of = dict(zip(table["content"], splits, strict=True))
    moved = images.loc[is_drawn, "content"].map(split_of)
    images["split"] = moved.reindex(images.index).fillna(images["split"])


def units(images: pd.DataFrame) -> Indices:
    """Return the number of the unit of each image, [n]: what is of one group, or alike."""
    import pandas as pd

    content = images["content"].to_numpy()
    alone = -1 - content  # like no other group
    groups = np.where(images["group"] == "", alone, pd.factorize(images["group"])[0])
    near = np.where(images["near_group"] == 0, alone, images["near_group"])
    return connected(content, groups, near)


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
    numbers = connected_components(coo_array(links, (count, count)), directed=False)[1]
    return np.asarray(numbers, np.int64)


class _Placement:
    """The splits of all images, as indices in `names.SPLITS`, while they are decided."""

    def __init__(self, table: pd.DataFrame, rule: SplitRule) -> None:
        self._units = units(table)
        self._labels = np.unique(table["label_index"], return_inverse=True)[1]
        by_class = np.argsort(self._labels, kind="stable")
        self._of_class = np.split(by_class, np.cumsum(np.bincount(self._labels))[:-1])
        self._class_sizes = self._count(slice(None))
        keys = [*map(rule.key, table["image_hash"], table["group"])]
        # A second draw orders the members of a group.
        of_members = np.array([rule.draw(f"order:{key}") for key in keys])
        order = np.lexsort((table["content"], of_members, self._units))
        ends = np.cumsum(np.bincount(self._units))
        first = order[np.r_[0, ends[:-1]]]  # by unit
        self._by_unit = order
        self._ends = ends
        self.splits = np.array([names.SPLITS.index(split) for split in _drawn(table, rule)])
        self._draws = np.array([rule.draw(keys[image]) for image in first])
        self._drawn = self.splits[first]

    def _count(self, images: Indices | Flags | slice) -> Indices:
        """Return the number of these images of each class."""
        return np.bincount(self._labels[images], minlength=int(self._labels.max()) + 1)

    def keep_together(self) -> None:
        """Place each unit in the split of the member that comes first in the second order.

        The member with the smallest draw would place most large units in validation. A unit with
        more than half of the images of a class stays in train.
        """
        classes = len(self._class_sizes)
        keys = self._units * classes + self._labels
        parts, counts = np.unique(keys, return_counts=True)
        most = counts > (1 - _TRAIN_SHARE) * self._class_sizes[parts % classes]
        drawn = self._drawn.copy()
        drawn[parts[most] // classes] = _TRAIN
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


def _drawn(table: pd.DataFrame, rule: SplitRule) -> list[str]:
    """Return the split that the rule draws for each image; one of a family is drawn with it."""
    given = names.TRAIN if rule.given else None
    return [
        rule.assign(row.image_hash, given, row.group) if row.is_family else row.split
        for row in table.itertuples()
    ]
