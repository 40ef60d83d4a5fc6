"""The tree of the folders of a source with its images, and the notes of what is not in it."""

from __future__ import annotations

import collections
import fnmatch
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from imgpipe.components.common.image_file import file_names
from imgpipe.components.common.splits import are_splits, split_of
from imgpipe.components.example_gen.notes import noted
from imgpipe.components.example_gen.sources.base import Item
from imgpipe.models.finding import Finding


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

    def filled(self) -> list[Folder]:
        """Return the folders directly in this one that hold images at any depth, by name."""
        return [self.folders[name] for name in sorted(self.folders) if self.folders[name].total]

    def names(self) -> set[str]:
        """Return the names of `filled` in lower case."""
        return {folder.name.lower() for folder in self.filled()}

    def words(self) -> list[Folder]:
        """Return those of `filled` that may be classes by their names: digits name none."""
        return [folder for folder in self.filled() if any(map(str.isalpha, folder.name))]

    def passed(self, classes: Set[str] = frozenset()) -> Folder:
        """Return the folder below single folders; one that has the name of a class is not passed.

        Files beside a single folder have to be few, and no images by their names, as README.
        """
        top = self
        while len(top.folders) == 1 and 2 * len(top.files) < top.total:
            (inner,) = top.folders.values()
            has_images = any(file_names.is_image(item.path) for item in top.files)
            if has_images or not inner.filled() or inner.name.lower() in classes:
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


#: Folders side by side, each with the split of what is in it.
Layer = Sequence[tuple[Folder, str | None]]


def inside(layer: Layer) -> Layer:
    """Return the folders in those of a layer."""
    return [(inner, split) for folder, split in layer for inner in folder.folders.values()]


def with_splits(layer: Layer, given: Mapping[str, str]) -> Layer:
    """Return folders with the splits that they name, or are given by their names, if all do."""
    called = {folder: given.get(folder.name, folder.name) for folder, _ in layer}
    if not are_splits([called[folder] for folder, _ in layer if folder.total]):
        return layer
    return [(folder, split or split_of(called[folder])) for folder, split in layer]


#: The tree of images, the files that are none by their names, and notes of what is not used.
Contents = tuple[Folder, list[str], list[Finding]]


def of_images(items: Iterable[Item], folders: Set[str], skip: Sequence[str]) -> Contents:
    """Return what is neither hidden nor skipped, and notes of all that is no image."""

    @functools.cache
    def left_out(path: str) -> tuple[str, str] | None:
        """Return the kind of note and what it names, for a path or a folder above it."""
        folder, _, name = path.rpartition("/")
        above = left_out(folder) if folder else None
        if above:
            return above
        if file_names.is_hidden(name):
            return file_names.hidden_kind(name), path
        entry = next((pattern for pattern in skip if _is_named(pattern, path, name)), None)
        return ("skipped", entry) if entry else None

    by_folder: dict[str, list[Item]] = collections.defaultdict(list)
    for item in items:
        by_folder[item.path.rpartition("/")[0]].append(item)
    root = Folder("", "")
    others: list[str] = []
    skipped: list[str] = []
    unread: collections.Counter[tuple[str, str]] = collections.Counter()
    for path, files in by_folder.items():
        kept = []
        for item in files:
            why = left_out(item.path)
            if why is None:
                kept.append(item)
                continue
            unread[why] += 1
            if why[0] == "skipped":
                skipped.append(item.path)
        beside = file_names.beside_images([item.path for item in kept])
        others += sorted(beside)
        images = [item for item in kept if item.path not in beside]
        if images:
            root.at(path, len(images)).files += images
    notes = [noted(kind, what, "", count) for (kind, what), count in unread.items()]
    notes += _notes(others, {folder.path.rstrip("/") for folder in root.walk()})
    of_others = {above for file in (*others, *skipped) for above in _above(file)}
    for path in sorted(folders - of_others):  # a class without a file
        if not left_out(path):
            root.at(path)
    return root, sorted(others), notes


def _is_named(pattern: str, path: str, name: str) -> bool:
    """Whether an entry of `data.skip` names a file or folder."""
    pattern = pattern.rstrip("/")
    if "/" in pattern:
        return path == pattern.strip("/") or fnmatch.fnmatchcase(path, pattern.strip("/"))
    return name.lower() == pattern.lower() or fnmatch.fnmatchcase(name.lower(), pattern.lower())


def _notes(others: Iterable[str], filled: Set[str]) -> list[Finding]:
    """Note files that are no images: by their suffix, or the folder that holds only such."""
    files_by_note: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    for file in others:
        empty = next((above for above in _above(file) if above not in filled), "")
        files_by_note[empty, "" if empty else file_names.ending_of(file)].append(file)
    return [
        noted("folder_without_images", folder, "holds no file that is an image", len(files))
        if folder
        else noted("other_files", min(files), f"{ending} is no image", len(files))
        for (folder, ending), files in files_by_note.items()
    ]


def _above(path: str) -> list[str]:
    """Return the paths of the folders above a file, the outermost first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
