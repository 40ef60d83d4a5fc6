"""How a tree of folders is read: which folders are splits and classes, and what is not used.

`docs/data.md` describes it in half a page, for all sources with paths. Nothing is concluded from
what words mean, but for the names of splits. Where the structure can be read in two ways, the
source is refused, with a command for each of them that was tried before it is shown.
"""

from __future__ import annotations

import collections
import fnmatch
import itertools
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from imgpipe.components.common.image_file import file_names
from imgpipe.components.example_gen.sources import (
    folder_tree,
    labels_in_names,
    no_classes,
    readings,
)
from imgpipe.components.example_gen.sources.base import Item, Note, Scan, SourceOptions
from imgpipe.components.example_gen.sources.folder_tree import Folder
from imgpipe.components.example_gen.sources.listing import EXPECTED_TREE, NoClasses, listed, some
from imgpipe.components.example_gen.sources.readings import OptionChange, TwoReadings
from imgpipe.components.example_gen.sources.split_names import split_of
from imgpipe.models import feature_names as names
from imgpipe.models.errors import ConfigError

_FEW_FOLDERS = 3  # of so many, a message shows how to read each alone
_CLASSES: OptionChange = {"class_level": 1}  # reads all folders as classes
_Roots = list[tuple[Folder, str | None]]  # folders that hold the classes, each with its split


def lay_out(
    where: str,
    members: Iterable[Item],
    folders: Iterable[str],
    notes: Iterable[Note],
    options: SourceOptions,
    descend: bool = True,
) -> Scan:
    """Set labels and splits by the folders in which the items lie.

    Args:
        where: The source, for messages.
        members: Items whose labels and splits are not set.
        folders: Paths of folders, which may hold no item.
        notes: Notes so far.
        options: The level of the classes, what is skipped and the least number of classes.
        descend: Whether a single folder around all others is passed.

    Returns:
        The scan of the source.

    Raises:
        ConfigError: The paths are not laid out as expected, or can be read in two ways.
    """
    items = tuple(members)
    found = frozenset(folders)

    def scan(tried: SourceOptions) -> Scan:
        layout = _Layout(where, items, found, tried, descend, list(notes))
        if tried.label_pattern:
            return labels_in_names.labelled(where, layout.not_left_out(), layout.notes, tried)
        return layout.scan()

    def renamed_scan(renamed: Mapping[str, str]) -> Scan:
        tried = [replace(item, path=_renamed(item.path, renamed)) for item in items]
        return _Layout(where, tuple(tried), frozenset(), options, descend).scan()

    try:
        return scan(options)
    except NoClasses as error:
        said = no_classes.advice(where, items, options, scan)
        raise ConfigError(f"{error}{said}") from None
    except TwoReadings as error:
        lines = readings.as_splits(where, error.renamed, renamed_scan)
        lines += readings.choices(where, options, error.changes, scan)
        choose = "\n  ".join([". Choose one:", *lines]) if lines else ""
        raise ConfigError(f"data source {where!r}: {error}{choose}") from None


@dataclass
class _Layout:
    """One reading of a tree."""

    where: str
    members: tuple[Item, ...]
    folders: frozenset[str]
    options: SourceOptions
    descend: bool
    notes: list[Note] = field(default_factory=list)
    #: Why folders are ignored, by their paths.
    _known: dict[str, tuple[str, str] | None] = field(default_factory=dict)

    def scan(self) -> Scan:
        """Read the tree; ConfigError where it is not as expected."""
        root = Folder("", re.sub(r"\..*", "", self.where.rstrip("/").rpartition("/")[2]))
        self._fill(root)
        roots = self._roots(self._passed(root) if self.descend else root)
        layer = [(inner, split) for one, split in roots for inner in one.folders.values()]
        for _ in range(self.options.class_level - 1):
            layer = [
                (inner, split or split_of(folder.name))
                for folder, split in layer
                for inner in folder.folders.values()
            ]
        cells = {folder.path: (folder.name, split) for folder, split in layer}
        if not self.options.class_level:
            classes = [folder for folder, _ in layer if folder.total]
            if not any(split for _, split in layer) and _hold_splits(classes):
                inside = [(one.name, inner) for one in classes for inner in one.filled()]
                cells |= {one.path: (label, split_of(one.name)) for label, one in inside}
            else:
                self._check_one_reading(classes)
        return self._listed(root, roots, cells)

    def not_left_out(self) -> list[Item]:
        """Return what is neither hidden nor named by `data.skip`, and note the others."""
        items: list[Item] = []
        left_out: collections.Counter[tuple[str, str]] = collections.Counter()
        for item in self.members:
            ignored = self._ignored(item.path, item.path not in self.folders)
            if ignored:
                left_out[ignored] += 1
            else:
                items.append(item)
        for (kind, part), count in left_out.items():
            hidden = kind == "hidden"  # such a folder counts as one, and is not even entered
            self._note(kind, part, "" if hidden else "named by data.skip", 1 if hidden else count)
        return items

    def _note(self, kind: str, path: str, detail: str, count: int = 1) -> None:
        self.notes.append(Note(kind, path.rstrip("/"), detail, count))

    def _fill(self, root: Folder) -> None:
        """Build the tree of the images, and note what is left out."""
        by_folder: dict[str, list[Item]] = collections.defaultdict(list)
        others: list[str] = []
        for item in self.not_left_out():
            by_folder[item.path.rpartition("/")[0]].append(item)
        for path, files in by_folder.items():
            beside = file_names.beside_images(item.path for item in files)
            images = [item for item in files if item.path not in beside]
            others += sorted(beside)
            if images:
                root.at(path, len(images)).files += images
        filled = {above for file in others for above in _above(file)}
        for path in sorted(self.folders - filled):  # a class without a file
            if not self._ignored(path, False):
                root.at(path)
        self._note_others(root, others)

    def _ignored(self, path: str, is_file: bool) -> tuple[str, str] | None:
        """Return the kind of note and the part for a path that is ignored."""
        folder, _, name = path.rpartition("/")
        if folder and folder not in self._known:
            self._known[folder] = self._ignored(folder, False)
        ignored = self._known.get(folder)
        if ignored:
            return ignored
        if file_names.is_hidden(name):
            return "hidden", path
        for pattern in self.options.skip:
            if _is_named(pattern, path, name):
                return ("skipped_files", pattern) if is_file else ("skipped_folder", path)
        return None

    def _note_others(self, root: Folder, others: Iterable[str]) -> None:
        """Note files that are no images: by their suffix, or the folder that holds only such."""
        found: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
        for file in others:
            empty = [above for above in _above(file) if not root.holds(above)]
            if empty:
                found["folder_without_images", empty[0]].append(file)
            else:
                found["other_files", file_names.suffix(file)].append(file)
        for (kind, what), files in found.items():
            if kind == "other_files":
                self._note(kind, min(files), f"{what} is no image", len(files))
            else:
                self._note(kind, what, "holds no file that is an image", len(files))

    def _passed(self, folder: Folder, classes: Set[str] = frozenset()) -> Folder:
        """Return the folder that holds classes or splits, below single folders around them."""
        top = folder
        while not top.files and len(top.folders) == 1:
            (inner,) = top.folders.values()
            if not inner.filled() or inner.name.lower() in classes:
                break
            top = inner
        if top is not folder:
            self._note("single_folder", top.path, "the only folder; the classes are those in it")
        return top

    def _roots(self, top: Folder) -> _Roots:
        """Return the folders that hold the class folders, each with its split; None for none."""
        splits = {folder: split_of(folder.name) for folder in top.filled()}
        given = [folder for folder, split in splits.items() if split]
        others = [folder for folder, split in splits.items() if not split]
        has_train = any(splits[one] == names.TRAIN and one.filled() for one in given)
        is_unique = len({splits[one] for one in given}) == len(given)
        shown = some([folder.name for folder in given])
        if self.options.class_level and (others or not has_train or not is_unique):
            return [(top, None)]
        if others and has_train:
            beside = some([folder.name for folder in others])
            why = f"{shown} name splits, and {beside} beside them do not"
            renamed = _as_splits(list(splits)) if not is_unique or len(given) == 1 else {}
            changes = (_without(others), _without(given), _CLASSES)
            raise TwoReadings(why, *changes, renamed=renamed)
        if others or not given:
            return [(top, None)]  # a class may be called test
        if any(folder.filled() for folder in given) and not (has_train and is_unique):
            why = f"{shown} name splits, but not one folder for each, with train among them"
            raise TwoReadings(why, *(_without([folder]) for folder in given), _CLASSES)
        if not is_unique:
            return [(top, None)]  # steam_train and freight_train
        several = [folder.names() for folder in given if len(folder.filled()) > 1]
        known = set[str]().union(*several)
        roots = [(self._passed(folder, known), split) for folder, split in splits.items()]
        classes = {name for one, split in roots if split == names.TRAIN for name in one.names()}
        for folder, (inner, split) in zip(given, list(roots), strict=True):
            if has_train and split != names.TRAIN and not inner.names() & classes:
                roots.remove((inner, split))
                del top.folders[folder.name]
                detail = "in no folder of a class of train, so that they have no label"
                self._note("unlabelled_folder", folder.path, detail, folder.total)
        return roots

    def _check_one_reading(self, classes: Sequence[Folder]) -> None:
        """Refuse a tree whose structure does not say which folders are the classes."""
        beside = folder_tree.companions(classes)
        if beside:
            why = (
                f"many files, those of {beside}, are called as others of their class, as masks are"
            )
            raise TwoReadings(why, {"skip": (beside,)}, _CLASSES)
        self._check_labels_in_names(classes)
        again = folder_tree.standing_again(classes)
        inner = list(itertools.chain.from_iterable(again.values()))
        if not inner:
            return
        levels = [{"class_level": level} for level in again if _reach(classes, level)]
        around = {one.name for one in classes if any(i.path.startswith(one.path) for i in inner)}
        apart: list[OptionChange] = []
        for name in sorted(around) if len(around) <= _FEW_FOLDERS else ():
            apart.append(_without(one for one in classes if one.name == name))
            apart.append(_without(one for one in classes if one.name != name))
        parts = sorted({folder.name for folder in inner})
        within = [{"skip": (name,)} for name in parts] if len(parts) == 2 else []
        why = (
            f"folders of the same names ({some(parts)}) stand at several places, among them in "
            f"{some(sorted(around))}, so that either may be the classes"
        )
        renamed = _as_splits(classes)
        raise TwoReadings(why, *levels, _CLASSES, *apart, *within, renamed=renamed)

    def _check_labels_in_names(self, classes: Sequence[Folder]) -> None:
        """Refuse folders of the same files, whose names hold several labels: images and masks."""
        folders = folder_tree.alike(classes) if len(classes) <= _FEW_FOLDERS else []
        patterns = [
            labels_in_names.pattern_in(item for one in folder.walk() for item in one.files)
            for folder in folders
        ]
        if not folders or "" in patterns:
            return
        why = (
            f"the files of {some([one.name for one in folders])} have the same names, which begin "
            "with several labels, so that either the names or the folders may tell the classes"
        )
        apart = [
            {"label_pattern": patterns[0], **_without(one for one in classes if one is not folder)}
            for folder in folders
        ]
        raise TwoReadings(why, *apart, {"label_pattern": patterns[0]}, _CLASSES)

    def _listed(
        self, root: Folder, roots: _Roots, cells: dict[str, tuple[str, str | None]]
    ) -> Scan:
        """Return the items with the label and the split of the class folder that they are in."""
        items: list[Item] = []
        labelled: dict[str, tuple[str | None, str | None]] = {
            **{folder.path: (None, split) for folder, split in roots if split},
            **cells,
        }
        waiting: list[tuple[Folder, str | None, str | None]] = [(root, None, None)]
        while waiting:
            folder, label, split = waiting.pop()
            label, split = labelled.get(folder.path, (label, split))
            items += [replace(item, label=label, split=split) for item in folder.files]
            waiting += [(inner, label, split) for inner in folder.folders.values()]
            if folder.path in cells and not folder.total:
                self._note("empty_class", folder.path, "no file in it")
        labels = [label for label, _ in cells.values()]
        splits = [split for _, split in (*roots, *cells.values()) if split]
        expected = EXPECTED_TREE
        if self.options.class_level:
            expected += f"; data.class_level is {self.options.class_level}"
        least = self.options.least_classes
        return listed(self.where, items, expected, least, self.notes, labels, splits)


def _above(path: str) -> list[str]:
    """Return the paths of the folders above a file, the outermost first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def _as_splits(folders: Sequence[Folder]) -> dict[str, str]:
    """Return names of splits for two or three folders of the same classes.

    Train is the one that is called so, or holds at least half of all images.

    Returns:
        The names by the paths of the folders; {} where they are hardly splits.
    """
    same = all(len(one.names()) > 1 and one.names() == folders[0].names() for one in folders)
    if not same or not 2 <= len(folders) <= len(names.SPLITS):
        return {}
    ordered = sorted(
        folders, key=lambda one: (split_of(one.name) != names.TRAIN, -one.total, one.path)
    )
    train = ordered[0]
    half = sum(one.total for one in folders) / 2
    is_largest = train.total >= half and train.total > ordered[1].total
    if split_of(train.name) != names.TRAIN and not is_largest:
        return {}
    order = ("train", "test") if len(folders) == 2 else ("train", "val", "test")
    return {one.path.rstrip("/"): name for one, name in zip(ordered, order, strict=True)}


def _renamed(path: str, renamed: Mapping[str, str]) -> str:
    """Return the path of a file in a folder that has another name."""
    for folder, name in renamed.items():
        if path.startswith(f"{folder}/"):
            return posixpath.join(posixpath.dirname(folder), name) + path[len(folder) :]
    return path


def _without(folders: Iterable[Folder]) -> OptionChange:
    """Return the change that leaves out folders."""
    return {"skip": tuple(sorted(f"/{folder.path}".rstrip("/") for folder in folders))}


def _is_named(pattern: str, path: str, name: str) -> bool:
    """Whether an entry of `data.skip` names a file or folder."""
    pattern = pattern.rstrip("/")
    if "/" in pattern:
        return path == pattern.strip("/") or fnmatch.fnmatchcase(path, pattern.strip("/"))
    return name.lower() == pattern.lower() or fnmatch.fnmatchcase(name.lower(), pattern.lower())


def _reach(classes: Iterable[Folder], level: int) -> bool:
    """Whether all images of the classes are in folders at a level, none of them for a split."""
    for folder in classes:
        least = folder.path.count("/") + level - 1
        for inner in folder.walk():
            if inner.files and inner.path.count("/") < least:
                return False
            if inner.path.count("/") == least and split_of(inner.name):
                return False
    return True


def _hold_splits(classes: Sequence[Folder]) -> bool:
    """Whether all folders in the classes are splits of images, with train among them."""
    inside = [inner for folder in classes for inner in folder.filled()]
    splits = {split_of(inner.name) for inner in inside}
    whole = not any(folder.files for folder in classes)
    flat = not any(inner.filled() for inner in inside)
    return whole and flat and None not in splits and names.TRAIN in splits and len(splits) > 1
