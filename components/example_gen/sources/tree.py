"""The tree of the folders of a source with the images in them."""

from __future__ import annotations

import collections
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imgpipe.components.example_gen.sources.images import Item


@dataclass(frozen=True)
class Tree:
    """The files of a source in folders, none of which is hidden or skipped.

    Attributes:
        images: The images, without labels.
        others: Paths of files that are no images.
        empty: Paths of folders without a file.
        head: Function that reads the first bytes of a file, at most as many as it is given.
        place: The folder on this machine; None for an archive or a bucket.
    """

    images: Sequence[Item]
    others: Sequence[str]
    empty: Collection[str]
    head: Callable[[str, int], bytes]
    place: Path | None


@dataclass(eq=False)
class Folder:
    """A folder of a source with the images in it."""

    path: str  # with a slash at its end; "" for the source itself
    name: str
    folders: dict[str, Folder] = field(default_factory=dict)
    files: list[Item] = field(default_factory=list)
    total: int = 0  # number of images at any depth

    @classmethod
    def of(cls, tree: Tree) -> Folder:
        """Return the folder of a whole source."""
        root = cls("", "")
        by_folder: dict[str, list[Item]] = collections.defaultdict(list)
        for item in tree.images:
            by_folder[item.path.rpartition("/")[0]].append(item)
        for path, items in by_folder.items():
            root.at(path, len(items)).files += items
        for path in tree.empty:  # a class without a file, unlike a folder of other files alone
            root.at(path)
        return root

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

    def filled(self) -> list[Folder]:
        """Return the folders directly in this one that hold images at any depth, by name."""
        return [self.folders[name] for name in sorted(self.folders) if self.folders[name].total]

    def words(self) -> list[Folder]:
        """Return those of `filled` that may be classes by their names: digits name none."""
        return [folder for folder in self.filled() if any(map(str.isalpha, folder.name))]

    def passed(self, classes: Collection[str] = ()) -> Folder:
        """Return the folder below single folders without an image beside them.

        One that has the name of a class is not passed.
        """
        top = self
        while len(top.folders) == 1 and not top.files:
            (inner,) = top.folders.values()
            if not inner.filled() or inner.name in classes:
                break
            top = inner
        return top

    def walk(self) -> Iterator[Folder]:
        """Yield this folder and all folders below it that hold images."""
        waiting = [self]
        while waiting:
            folder = waiting.pop()
            yield folder
            waiting += folder.filled()
