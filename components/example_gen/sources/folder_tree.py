"""The tree of the folders of a source, and what the names in it have in common."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field

from imgpipe.components.example_gen.sources import folder_names
from imgpipe.components.example_gen.sources.base import Item
from imgpipe.components.example_gen.sources.folder_names import Meaning, meaning
from imgpipe.components.example_gen.sources.tree import is_split, split_words
from imgpipe.models import feature_names as names

_MOST = 0.8  # share of the files that sub-folders of the same names hold, where they are classes


@dataclass
class Folder:
    """A folder of a source with all that is in it."""

    path: str  # with a slash at its end; "" for the source itself
    name: str
    folders: dict[str, Folder] = field(default_factory=dict)
    files: list[Item] = field(default_factory=list)
    total: int = 0  # number of files at any depth

    def at(self, path: str, more: int = 0) -> Folder:
        """Return the folder at a path below this one, made if missing, and count more files."""
        folder = self
        folder.total += more
        for name in filter(None, path.split("/")):
            if name not in folder.folders:
                folder.folders[name] = Folder(f"{folder.path}{name}/", name)
            folder = folder.folders[name]
            folder.total += more
        return folder

    def everything(self) -> Iterator[Item]:
        """Yield all files at any depth."""
        waiting = [self]
        while waiting:
            folder = waiting.pop()
            yield from folder.files
            waiting += folder.folders.values()

    def filled(self) -> list[Folder]:
        """Return the folders directly in this one that hold files at any depth, by name."""
        return [self.folders[name] for name in sorted(self.folders) if self.folders[name].total]

    def names(self) -> set[str]:
        """Return the names of `filled` in lower case."""
        return {inner.name.lower() for inner in self.filled()}

    def has_only_texts(self) -> bool:
        """Whether all files are texts or tables."""
        return _only_texts(self.everything())

    def inside(self) -> Folder:
        """Return the folder in this one that holds folders, below single folders around them."""
        folder = self
        while _only_texts(folder.files):
            pictures = [inner for inner in folder.filled() if not inner.has_only_texts()]
            if len(pictures) != 1 or not pictures[0].filled():
                break
            folder = pictures[0]
        return folder

    def classes(self) -> set[str]:
        """Return the names of the folders in `inside` that may be classes, in lower case."""
        inside = self.inside()
        own = {inside.name.lower(), "test"}
        plain = (folder_names.is_images, folder_names.is_unlabelled)
        return {name for name in inside.names() - own if not any(said(name) for said in plain)}


def _only_texts(files: Iterable[Item]) -> bool:
    return all(folder_names.is_no_image(item.path) for item in files)


def split_of(name: str) -> str | None:
    """Return the split that a folder's name contains; None for none or several."""
    found = {*split_words(name).values()}
    return found.pop() if len(found) == 1 else None


def hold_splits(layer: Sequence[Folder]) -> bool:
    """Whether the folders in each class are splits, with train among them."""
    filled = [folder for folder in layer if folder.total]
    found = [{split_of(inner.name) for inner in folder.filled()} for folder in filled]
    return bool(found) and all(
        names.TRAIN in splits and None not in splits and len(splits) > 1 and not folder.files
        for folder, splits in zip(filled, found, strict=True)
    )


def is_around(folder: Folder, inner: Folder, split: str | None, classes: Set[str]) -> bool:
    """Whether the only folder in another one holds the classes, of which some may be known."""
    name = inner.name.lower()
    if split is None:
        return bool(inner.folders) and not is_split(name)
    may_hold = not classes or folder_names.is_images(name) or bool(inner.names() & classes)
    return name == folder.name.lower() or (bool(inner.folders) and name not in classes and may_hold)


def is_data_set(folder: Folder) -> bool:
    """Whether a folder holds splits, train among them, with the same classes in each."""
    inside = folder.inside()
    return hold_splits([inside]) and share_names(inside.filled())


def share_names(layer: Sequence[Folder]) -> bool:
    """Whether most files are in sub-folders whose names several folders share, at least two.

    One name is enough where the folders themselves are hardly classes, such as camera_1.
    """
    inside = [folder.inside() for folder in layer]
    pairs = zip(layer, inside, strict=True)
    # A class in two splits is one folder.
    known = {(folder.name, name) for folder, inner in pairs for name in inner.names()}
    times = collections.Counter(name for _, name in known)
    shared = {name for name, count in times.items() if count > 1}
    if not shared or len(times) == 1:
        return False
    if meaning([folder.name for folder in layer]) is Meaning.SESSION:
        shared = set(times)
    below = [inner for folder in inside for inner in folder.filled()]
    held = sum(inner.total for inner in below if inner.name.lower() in shared)
    return len(shared) > 1 and held >= _MOST * sum(folder.total for folder in layer)


def repeats(folder: Folder, beside: Iterable[str]) -> bool:
    """Whether a folder holds folders with the names of those beside it."""
    inner = folder.names()
    again = inner & (set(beside) - {folder.name.lower()})
    if len(again) > 1 and 2 * len(again) >= len(inner):
        return True
    return bool(inner) and inner == again and not folder.files


def are_twins(files: Iterable[Item], beside: Iterable[Item]) -> bool:
    """Whether most files have the name of exactly one of those beside them."""
    times = collections.Counter(folder_names.twin_stem(item.path) for item in beside)
    found = [times[folder_names.twin_stem(item.path)] == 1 for item in files]
    return 2 * sum(found) > len(found)
