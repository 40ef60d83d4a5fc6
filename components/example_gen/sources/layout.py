"""How a tree of folders is read: which folders are splits and classes, and what is not used.

`docs/data.md` describes it in half a page, for all sources with paths. Nothing is concluded from
what words mean, but for the names of splits. Where the structure can be read in two ways, the
source is refused, with a command for each of them that was tried before it is shown.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from imgpipe.components.example_gen.settings import SourceOptions
from imgpipe.components.example_gen.sources import (
    folder_tree,
    labels_in_names,
    no_classes,
    readings,
    same_names,
)
from imgpipe.components.example_gen.sources.base import Item, Note, Scan
from imgpipe.components.example_gen.sources.folder_tree import Folder
from imgpipe.components.example_gen.sources.listing import EXPECTED_TREE, NoClasses, listed, some
from imgpipe.components.example_gen.sources.readings import OptionChange, TwoReadings
from imgpipe.components.example_gen.sources.split_names import are_splits, given_splits, split_of
from imgpipe.models.names import feature_names as names

_FEW_FOLDERS = 3  # of so many, a message shows how to read each alone
_CLASSES: OptionChange = {"class_level": 1}  # reads all folders as classes
_Roots = list[tuple[Folder, str | None]]  # folders that hold the classes, each with its split
_Cells = dict[str, tuple[str, str | None]]  # label and split by the path of a folder


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
    before = list(notes)

    def scan(tried: SourceOptions) -> Scan:
        tree, left_out = folder_tree.of_images(items, found, tried.skip)
        return _Layout(where, tree, tried, descend, before + left_out).scan()

    try:
        return scan(options)
    except NoClasses as error:
        raise no_classes.explained(error, where, items, options, scan) from None
    except TwoReadings as error:
        raise readings.refused(error, where, options, scan) from None


@dataclass
class _Layout:
    """One reading of a tree."""

    where: str
    tree: Folder
    options: SourceOptions
    descend: bool
    notes: list[Note] = field(default_factory=list)

    def scan(self) -> Scan:
        """Read the tree; ConfigError where it is not as expected."""
        roots = self._roots(self._passed(self.tree) if self.descend else self.tree)
        pattern = self.options.label_pattern
        cells = {} if pattern else self._cells(roots)
        items = self._items(roots, cells)
        expected = EXPECTED_TREE
        if self.options.class_level:
            expected += f"; data.class_level is {self.options.class_level}"
        if pattern:
            expected = f"expected labels that data.label_pattern finds. Received: {pattern}"
            items = labels_in_names.labelled(items, pattern)
        unlabelled = self._without_labels(roots, items)
        items = [item for item in items if item.split not in unlabelled]
        if pattern:
            missed = [item.path for item in items if not item.label]
            self.notes += [Note("unlabelled_file", path, "no label in its name") for path in missed]
            items = [item for item in items if item.label]
        given = [(label, split) for label, split in cells.values() if split not in unlabelled]
        splits = {split for _, split in (*roots, *given)} - {None, *unlabelled}
        labels = [label for label, _ in given]
        least = self.options.least_classes
        return listed(self.where, items, expected, least, self.notes, labels, splits)

    def _note(self, kind: str, path: str, detail: str, count: int = 1) -> None:
        self.notes.append(Note(kind, path.rstrip("/"), detail, count))

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
        splits = {folder: self._split_of(folder) for folder in top.filled()}
        given = [folder for folder, split in splits.items() if split]
        others = [folder for folder, split in splits.items() if not split]
        is_unique = len(set(splits.values())) == len(splits)
        if not others and is_unique and names.TRAIN in splits.values():
            several = [folder.names() for folder in given if len(folder.filled()) > 1]
            classes = set[str]().union(*several)
            return [(self._passed(folder, classes), split) for folder, split in splits.items()]
        has_train = any(splits[one] == names.TRAIN and one.filled() for one in given)
        has_classes = any(folder.filled() for folder in given)
        is_said = self.options.class_level or self.options.label_pattern
        if is_said or not (has_train if others else has_classes):
            return [(top, None)]  # a class may be called test
        shown = some([folder.name for folder in given])
        if not others:
            why = f"{shown} name splits, but not one folder for each, with train among them"
            raise TwoReadings(why, *(_without([folder]) for folder in given), _CLASSES)
        why = f"{shown} name splits, and {some([one.name for one in others])} beside them do not"
        named = _as_splits(list(splits))
        raise TwoReadings(why, named, _without(others), _without(given), _CLASSES)

    def _split_of(self, folder: Folder) -> str | None:
        return given_splits(self.options.split_folders).get(folder.name) or split_of(folder.name)

    def _cells(self, roots: _Roots) -> _Cells:
        """Return label and split of the class folders, and of the splits in them."""
        layer = [(inner, split) for one, split in roots for inner in one.folders.values()]
        for _ in range(self.options.class_level - 1):
            named = are_splits(self._split_of(folder) for folder, _ in layer)
            layer = [
                (inner, split or (self._split_of(folder) if named else None))
                for folder, split in layer
                for inner in folder.folders.values()
            ]
        cells = {folder.path: (folder.name, split) for folder, split in layer}
        if self.options.class_level:
            return cells
        classes = [folder for folder, _ in layer if folder.total]
        inside = [(one.name, inner) for one in classes for inner in one.filled()]
        is_flat = not any(one.files for one in classes) and not any(x.filled() for _, x in inside)
        if is_flat and are_splits(self._split_of(inner) for _, inner in inside):
            return cells | {one.path: (label, self._split_of(one)) for label, one in inside}
        self._check_one_reading(roots, classes)
        return cells

    def _check_one_reading(self, roots: _Roots, classes: Sequence[Folder]) -> None:
        """Refuse a tree whose structure does not say which folders are the classes."""
        beside = same_names.companions(classes)
        if beside:
            why = (
                f"many files, those of {beside}, are called as others of their class, as masks are"
            )
            raise TwoReadings(why, {"skip": (beside,)}, _CLASSES)
        alike = next((root for root, _ in roots if same_names.have_same_files(root.filled())), None)
        if alike:
            raise _images_and_masks(alike.filled())
        again = same_names.standing_again(classes)
        if again:
            raise _classes_again(classes, again)

    def _items(self, roots: _Roots, cells: _Cells) -> list[Item]:
        """Return the items with the label and the split of the folder that they are in."""
        items: list[Item] = []
        found: dict[str, tuple[str | None, str | None]] = {
            **{folder.path: (None, split) for folder, split in roots if split},
            **cells,
        }
        waiting: list[tuple[Folder, str | None, str | None]] = [(self.tree, None, None)]
        while waiting:
            folder, label, split = waiting.pop()
            label, split = found.get(folder.path, (label, split))
            items += [item.placed(label, split) for item in folder.files]
            waiting += [(inner, label, split) for inner in folder.folders.values()]
            if folder.path in cells and not folder.total:
                self._note("empty_class", folder.path, "no file in it")
        return items

    def _without_labels(self, roots: _Roots, items: Iterable[Item]) -> set[str]:
        """Return and note the held-out splits that have no class of train."""
        labels: dict[str | None, set[str]] = collections.defaultdict(set)
        for item in items:
            labels[item.split].add((item.label or "").lower())
        known = labels[names.TRAIN] - {""}
        unlabelled: set[str] = set()
        for folder, split in roots:
            if known and split and not known & labels[split]:
                unlabelled.add(split)
                detail = "in no folder of a class of train, so that they have no label"
                self._note("unlabelled_folder", folder.path, detail, folder.total)
        return unlabelled


def _images_and_masks(folders: Sequence[Folder]) -> TwoReadings:
    """Return the refusal of folders with the same files; their names may hold the labels."""
    shown = some([folder.name for folder in folders])
    why = f"the files of {shown} have the same names throughout, as images and their masks have"
    pattern = labels_in_names.pattern_in(item for one in folders[0].walk() for item in one.files)
    labels: list[OptionChange] = []
    if pattern:
        why += "; they begin with several labels, so that the names may tell the classes"
        labels = [{"label_pattern": pattern, **_only(folder, folders)} for folder in folders]
        labels.append({"label_pattern": pattern})
    return TwoReadings(why, *labels, _CLASSES)


def _classes_again(
    classes: Sequence[Folder], again: Mapping[Folder, Sequence[Folder]]
) -> TwoReadings:
    """Return the refusal of folders whose names stand at several places."""
    around = sorted({one.name for one in again})
    parts = sorted({folder.name for found in again.values() for folder in found})
    depths = [
        1 + inner.path.count("/") - one.path.count("/")
        for one in classes
        for inner in one.walk()
        if inner.files
    ]
    levels = [{"class_level": level} for level in range(2, min(depths) + 1)]
    apart: list[OptionChange] = []
    for name in around if len(around) <= _FEW_FOLDERS else ():
        apart.append(_without(one for one in classes if one.name == name))
        apart.append(_without(one for one in classes if one.name != name))
    within = [{"skip": (name,)} for name in parts] if len(parts) == 2 else []
    why = (
        f"folders of the same names ({some(parts)}) stand at several places, among them in "
        f"{some(around)}, so that either may be the classes"
    )
    return TwoReadings(why, _as_splits(classes), *levels, _CLASSES, *apart, *within)


def _as_splits(folders: Sequence[Folder]) -> OptionChange:
    """Return the change that reads two or three folders of the same classes as splits.

    Train is the one that is called so, or holds more than half of all images.
    """
    same = all(len(one.names()) > 1 and one.names() == folders[0].names() for one in folders)
    words = {2: ["train", "test"], 3: ["train", "val", "test"]}.get(len(folders), [])
    said = {split_of(folder.name) for folder in folders}
    free = [word for word in words if split_of(word) not in said]
    others = sorted((one for one in folders if not split_of(one.name)), key=lambda one: -one.total)
    is_train = others and 2 * others[0].total > sum(one.total for one in folders)
    if not same or not free or ("train" in free and not is_train):
        return {}
    entries = (f"{one.name}={word}" for one, word in zip(others, free, strict=False))
    return {"split_folders": tuple(entries)}


def _only(folder: Folder, folders: Sequence[Folder]) -> OptionChange:
    """Return the change that leaves out all folders but one."""
    return _without(one for one in folders if one is not folder)


def _without(folders: Iterable[Folder]) -> OptionChange:
    """Return the change that leaves out folders."""
    return {"skip": tuple(sorted(f"/{folder.path}".rstrip("/") for folder in folders))}
