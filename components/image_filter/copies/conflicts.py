"""Identical images in several classes: how many each two classes share, and what to do about it.

A class that holds nothing but images of several others is a pool, such as a folder of all
photographs beside those of the classes. Its images are rejected, and those of the others are kept.
"""

from __future__ import annotations

import itertools
import json
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from imgpipe.components.common.formatting import join_names, plural
from imgpipe.components.image_filter.judge.image_row import ImageRow

_Rows = Sequence[ImageRow]  # of one content


class Conflicts:
    """The images that are in several classes, summed by pairs of classes.

    They are found among all images that passed the checks, which are given by content.

    Attributes:
        pools: The classes that hold nothing but images of several others, with these.
    """

    def __init__(self, contents: Iterable[_Rows]) -> None:
        self._pairs: Counter[tuple[str, str]] = Counter()
        others: dict[str, Counter[str]] = defaultdict(Counter)
        is_alone: set[str] = set()  # classes that have an image of their own
        places: dict[str, set[str]] = defaultdict(set)
        for rows in contents:
            labels = sorted({row.label for row in rows})
            self._pairs.update(itertools.combinations(labels, 2))
            is_alone |= set(labels) if len(labels) == 1 else set()
            for row in rows if len(labels) > 1 else ():
                places[row.label].add(_folder_of_class(row))
                others[row.label].update(label for label in labels if label != row.label)
        self.pools: Mapping[str, list[str]] = {
            label: sorted(of_others)
            for label, of_others in others.items()
            if label not in is_alone and len(of_others) > 1
        }
        self._places = places

    def remedy(self, labels: Iterable[str]) -> str:
        """Return what to do about an image that is in several classes, of these names."""
        first, second, *_ = sorted(labels)
        for pool, within in ((first, second), (second, first)):
            if pool in self.pools and within not in self.pools:
                others = join_names([repr(name) for name in self.pools[pool]])
                why = f"every image of {pool!r} is one of {others}, too"
                return f"{why}: {self._left_out(pool)}"
        shared = plural(self._pairs[first, second], "image is", "images are")
        return (
            f"{shared} in both {first!r} and {second!r}, and a model gives one answer to an image: "
            "keep each in one class or in none, or leave out a class with data.skip"
        )

    def _left_out(self, label: str) -> str:
        """Return how a class is left out: by its folders, where the paths have them."""
        places = sorted(self._places[label])
        if not all(places):
            return "leave its rows out of the list"
        return f"leave it out with --set {shlex.quote(f'data.skip={json.dumps(places)}')}"


def _folder_of_class(row: ImageRow) -> str:
    """Return the folder with the name of an image's class as an entry of data.skip; "" for none."""
    folders = row.path.split("/")[:-1]
    if row.label not in folders:
        return ""
    return "/" + "/".join(folders[: folders.index(row.label) + 1])
