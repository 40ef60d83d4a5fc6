"""The tree of the folders of a source, and what its structure tells about the classes."""

from __future__ import annotations

import collections
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from imgpipe.components.common.image_file.file_names import stem, suffix
from imgpipe.components.example_gen.sources.base import Item

#: A name with an end that says that it belongs to another file: x_mask and x_mask_1 beside x.
_ENDING = re.compile(r"(.+?)([-_. ]+[^\W\d_]+)([-_. ]?\d+)?")
_MANY = 3  # one in so many files shows that the names mean something


@dataclass(eq=False)
class Folder:
    """A folder of a source with the images in it."""

    path: str  # with a slash at its end; "" for the source itself
    name: str
    folders: dict[str, Folder] = field(default_factory=dict)
    files: list[Item] = field(default_factory=list)
    total: int = 0  # number of images at any depth

    def at(self, path: str, more: int = 0) -> Folder:
        """Return the folder at a path below this one, made if missing, and count more images."""
        folder = self
        folder.total += more
        for name in filter(None, path.split("/")):
            if name not in folder.folders:
                folder.folders[name] = Folder(f"{folder.path}{name}/", name)
            folder = folder.folders[name]
            folder.total += more
        return folder

    def holds(self, path: str) -> bool:
        """Whether there is a folder at a path below this one."""
        folder: Folder | None = self
        for name in path.split("/"):
            folder = folder and folder.folders.get(name)
        return folder is not None

    def filled(self) -> list[Folder]:
        """Return the folders directly in this one that hold images at any depth, by name."""
        return [self.folders[name] for name in sorted(self.folders) if self.folders[name].total]

    def names(self) -> set[str]:
        """Return the names of `filled` in lower case."""
        return {folder.name.lower() for folder in self.filled()}

    def walk(self) -> Iterator[Folder]:
        """Yield this folder and all folders below it that hold images."""
        waiting = [self]
        while waiting:
            folder = waiting.pop()
            yield folder
            waiting += folder.filled()


def is_word(folder: Folder) -> bool:
    """Whether the name of a folder may be that of a class among parts of it: digits are none."""
    return any(map(str.isalpha, folder.name))


def standing_again(classes: Sequence[Folder]) -> dict[int, list[Folder]]:
    """Return folders that stand side by side with names that stand side by side elsewhere, too.

    Args:
        classes: Folders that may be classes; those of one name, as in two splits, are one class.

    Returns:
        Folders in those that may be classes, by their level from 2 on.
    """
    places: dict[str, set[str]] = collections.defaultdict(set)
    inside: list[tuple[str, Folder]] = []
    for one in classes:
        above = one.path[: -len(one.name) - 1]
        for folder in one.walk():
            place = folder.path.removeprefix(above)
            places[folder.name.lower()].add(place.lower())
            inside.append((place, folder))
    again: dict[int, list[Folder]] = collections.defaultdict(list)
    for place, folder in inside:
        found = [
            one for one in folder.filled() if is_word(one) and len(places[one.name.lower()]) > 1
        ]
        if len(found) > 1:
            again[1 + place.count("/")] += found
    return dict(sorted(again.items()))


def alike(classes: Sequence[Folder]) -> list[Folder]:
    """Return folders of other kinds of files of which most of one have the names of the others.

    Args:
        classes: Folders that may be classes.

    Returns:
        A folder of photographs (.jpg) and that of their masks (.png); [] where no two are like
        that. Photographs that are numbered in each class are mostly of one kind.
    """
    files = [[item.path for one in each.walk() for item in one.files] for each in classes]
    usual = {
        collections.Counter(map(suffix, paths)).most_common(1)[0][0] for paths in files if paths
    }
    if len(usual) < 2:
        return []
    stems = [set(map(stem, paths)) for paths in files]
    for number, own in enumerate(stems):
        same = [
            classes[place]
            for place, other in enumerate(stems)
            if place != number and 2 * len(own & other) > len(own)
        ]
        if same:
            return sorted([classes[number], *same], key=lambda one: one.path)
    return []


def companions(classes: Sequence[Folder]) -> str:
    """Return what names the files of which each has the name of another one of its class.

    Returns:
        A pattern such as "*_mask*" where x_mask lies beside x, or the name of the folder in which
        the files have the names of those beside it; "" where less than a third are like that.
    """
    found: collections.Counter[str] = collections.Counter()
    for one in classes:
        inside = [(folder, [stem(item.path) for item in folder.files]) for folder in one.walk()]
        own = set(inside[0][1])  # in the folder itself
        stems = set(itertools.chain.from_iterable(names for _, names in inside))
        for folder, names in inside:
            for name in names:
                match = _ENDING.fullmatch(name)
                if match and match[1] in stems:
                    found[f"*{match[2]}*"] += 1
                elif folder is not one and is_word(folder) and name in own:
                    found[folder.name] += 1
    total = sum(folder.total for folder in classes)
    usual = [name for name, count in found.most_common(1) if _MANY * count >= total]
    return usual[0] if usual else ""
