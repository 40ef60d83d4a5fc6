"""The tree of the folders of a source with its images, and the notes of what is not in it."""

from __future__ import annotations

import collections
import fnmatch
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from imgpipe.components.common.image_file import file_names
from imgpipe.components.common.image_file.file_names import Kind
from imgpipe.components.common.splits import are_splits, split_of
from imgpipe.components.example_gen.notes import noted
from imgpipe.components.example_gen.sources.base import Item
from imgpipe.models.files.regular_files import open_regular
from imgpipe.models.finding import Finding

#: Tells what a file is, by its path; None if only its ending would tell it, which says nothing.
KindOf = Callable[[str], Kind | None]


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
        """Return the folder below single folders without an image beside them.

        One that has the name of a class is not passed.
        """
        top = self
        while len(top.folders) == 1 and not top.files:
            (inner,) = top.folders.values()
            if not inner.filled() or inner.name.lower() in classes:
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


def kind_below(place: Path, path: str) -> Kind | None:
    """Tell what a file in a folder of this machine is."""
    try:
        with open_regular(place / path) as file:
            return file_names.kind_of(file.read(file_names.HEAD), path)
    except OSError:
        return file_names.kind_by_ending(path)


def kinds_by_name(items: Iterable[Item]) -> KindOf:
    """Return the function that tells what files are of which only the names are known.

    An image has an ending of images or, but for one beside folders such as README, none.
    """
    around = {item.path.rpartition("/")[0].rpartition("/")[0] for item in items}

    def kind_of(path: str) -> Kind | None:
        is_other = file_names.has_ending(path) or path.rpartition("/")[0] in around
        return file_names.kind_by_ending(path) or ("other" if is_other else None)

    return kind_of


@dataclass
class Contents:
    """What a source holds that is neither hidden nor skipped.

    Attributes:
        root: The tree of the images.
        others: The files that are no images, with their kinds.
        notes: What is hidden or skipped.
    """

    root: Folder
    others: dict[str, Kind] = field(default_factory=dict)
    notes: list[Finding] = field(default_factory=list)

    def lost(self) -> list[Finding]:
        """Note each file that may hold images, or stand for one, with what to do about it."""
        by_folder: dict[str, list[str]] = collections.defaultdict(list)
        for file in self.others:
            folder, _, name = file.rpartition("/")
            by_folder[folder].append(name)
        parts = {folder: file_names.joined(files) for folder, files in by_folder.items()}
        notes: list[Finding] = []
        for file, kind in self.others.items():
            if kind in file_names.MAY_STAND_FOR:
                folder, _, name = file.rpartition("/")
                _, usual_way = file_names.MAY_STAND_FOR[kind]
                way = parts[folder].get(name, usual_way)
                notes.append(noted(f"{kind}_file", file, remedies=[way]))
        return notes

    def unused(self, classes: Sequence[str]) -> list[Finding]:
        """Note files that are no images: by their kind, or the folder that holds only such.

        What is in a class folder is left out, unless it belongs to an image there by its name.
        """
        left_out = self._left_out(set(classes))
        filled = {folder.path.rstrip("/") for folder in self.root.walk()}
        notes = self.lost()
        files_by_note: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
        for file, kind in self.others.items():
            if kind in file_names.MAY_STAND_FOR:
                continue
            empty = next((above for above in _above(file) if above not in filled), "")
            if file in left_out or not empty:
                place = "file" if file in left_out else "beside"
                files_by_note["", f"{kind}_{place}"].append(file)
            else:
                files_by_note[empty, "folder_without_images"].append(file)
        for (folder, reason), files in files_by_note.items():
            kinds = file_names.counted(self.others[file] for file in files)
            detail = f"no image, but {kinds}" if folder else ""
            notes.append(noted(reason, folder or min(files), detail, len(files)))
        return notes

    def _left_out(self, classes: Set[str]) -> set[str]:
        """Return the files in class folders that belong to no image there."""

        def class_of(path: str) -> str:
            return next((above for above in _above(path) if f"{above}/" in classes), "")

        files: dict[str, list[str]] = collections.defaultdict(list)
        for file in self.others:
            files[class_of(file)].append(file)
        files.pop("", None)
        images: dict[str, list[str]] = collections.defaultdict(list)
        for folder in self.root.walk() if files else ():
            images[class_of(f"{folder.path}/")] += [item.path for item in folder.files]
        return {
            file
            for name, of_class in files.items()
            for file in set(of_class) - file_names.companions(of_class, images[name])
        }


def of_images(
    items: Iterable[Item], folders: Set[str], skip: Sequence[str], kind_of: KindOf
) -> Contents:
    """Return what is neither hidden nor skipped."""

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
    contents = Contents(root)
    unread: collections.Counter[tuple[str, str]] = collections.Counter()
    for path, files in by_folder.items():
        kept = []
        for item in files:
            why = left_out(item.path)
            if why is None:
                kept.append(item)
            else:
                unread[why] += 1
        beside = file_names.no_images([item.path for item in kept], kind_of)
        images = [item for item in kept if item.path not in beside]
        contents.others |= beside
        if images:
            root.at(path, len(images)).files += images
    contents.notes += [noted(kind, what, "", count) for (kind, what), count in unread.items()]
    of_files = {above for folder in by_folder for above in _above(f"{folder}/")}
    for path in sorted(folders - of_files):  # a class without a file
        if not left_out(path):
            root.at(path)
    contents.others = dict(sorted(contents.others.items()))
    return contents


def _is_named(pattern: str, path: str, name: str) -> bool:
    """Whether an entry of `data.skip` names a file or folder."""
    pattern = pattern.rstrip("/")
    if "/" in pattern:
        return path == pattern.strip("/") or fnmatch.fnmatchcase(path, pattern.strip("/"))
    return name.lower() == pattern.lower() or fnmatch.fnmatchcase(name.lower(), pattern.lower())


def _above(path: str) -> list[str]:
    """Return the paths of the folders above a file, the outermost first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
