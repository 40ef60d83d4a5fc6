"""What the folders of a tree are: splits and classes, and where they may be others.

Nothing is concluded from what words mean, but for the names of splits: the settings say it, and the
structure. Where it can be read in two ways, the settings of the likeliest ones follow from it, too.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from imgpipe.components.common.formatting import join_names, plural
from imgpipe.components.common.image_file import file_names
from imgpipe.components.common.splits import are_splits, split_of
from imgpipe.components.example_gen.notes import noted
from imgpipe.components.example_gen.sources.base import EXPECTED_TREE, Item, Scan, Source, listed
from imgpipe.components.example_gen.sources.folder_tree import Folder, Layer, inside, with_splits
from imgpipe.models import names
from imgpipe.models.finding import Finding

_Cells = dict[Folder, tuple[str | None, str | None]]  # label and split of what is in a folder

#: The end of a name that says that the file belongs to another one: x_mask and x_mask_1 beside x.
_ENDING = re.compile(r"[-_. ]+[^\W\d_]+(?=(?:[-_. ]?\d+)?$)")
#: The name of a file up to its number, as in cat.12.jpg.
_LABEL_IN_NAME = r"([^/\d]*?[^/\d\W_])[-_. (]*\d+[^/\d]*(?:\.\w+)?$"
_LEAST = 3  # files that each label of the pattern needs at least
_MANY = 3  # one in so many files shows that the names mean something
_KINDS = 3  # folders of images, of their masks and, perhaps, of something else
_FEW_FILES = 5  # the names of fewer may be the same by chance


#: Settings of [data] with which a source is read in one way.
Way = Mapping[str, Any]
_FIRST_LEVEL: dict[str, Any] = {"class_level": 1}


class Ambiguity(Exception):
    """A tree can be read in several ways; the message says why."""

    def __init__(self, why: str, *ways: Way) -> None:
        """Remember the likeliest ways, the likeliest first."""
        super().__init__(why)
        self.ways = ways


@dataclass
class Layout:
    """The reading of a tree with the settings of [data]."""

    source: Source
    tree: Folder
    descend: bool  # whether a single folder around all others is passed
    notes: list[Finding] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)  # paths of the class folders, after `scan`

    def scan(self) -> Scan:
        """Read the tree.

        Raises ConfigError if it is not laid out as expected, and Ambiguity if it can be read in
        several ways.
        """
        roots = self.roots()
        pattern = self.source.options.label_pattern
        cells: _Cells = {folder: (None, split) for folder, split in roots}
        cells |= {} if pattern else self._class_cells(roots)
        items = self._items(cells)
        self.classes = [folder.path for folder, (label, _) in cells.items() if label]
        if pattern:
            items = labelled(items, pattern)
            self.classes = [folder.path for folder in self.tree.walk() if folder.files]
        unlabelled = self._without_labels(roots, items)
        items = [item for item in items if item.split not in unlabelled]
        if pattern:
            missed = [item.path for item in items if not item.label]
            self.notes += [noted("unlabelled_file", p, "no label in its name") for p in missed]
            items = [item for item in items if item.label]
        labels = {label for label, split in cells.values() if label and split not in unlabelled}
        splits = {split for _, split in cells.values()} - {None, *unlabelled}
        options = self.source.options
        settings = {name: getattr(options, name) for name in ("class_level", "label_pattern")}
        given = [f"data.{name} is {value}" for name, value in settings.items() if value]
        expected = "; ".join([EXPECTED_TREE, *given])
        least = self.source.least_classes
        return listed(self.source.locator, items, expected, least, self.notes, labels, splits)

    def roots(self) -> Layer:
        """Return the folders that hold the class folders: those of the splits, or the top."""
        top = self._passed(self.tree) if self.descend else self.tree
        layer = with_splits([(folder, None) for folder in top.filled()], self._given())
        if [split_of(folder.name) for folder, _ in layer] == [names.TRAIN]:
            layer = [(layer[0][0], names.TRAIN)]  # alone, beside loose files
        splits = {split for _, split in layer}
        if not splits or None in splits or len(splits) < len(layer):
            return [(top, None)]
        # A single folder in a split is passed, unless it has the name of a class in another split.
        several = [folder.names() for folder, _ in layer if len(folder.filled()) > 1]
        classes = set[str]().union(*several)
        return [(self._passed(folder, classes), split) for folder, split in layer]

    def _given(self) -> dict[str, str]:
        """Return the splits that `data.split_folders` gives to names of folders."""
        return dict(entry.rsplit("=", 1) for entry in self.source.options.split_folders)

    def _passed(self, folder: Folder, classes: Set[str] = frozenset()) -> Folder:
        """Return the folder that holds classes or splits, and note single folders around them."""
        top = folder.passed(classes)
        if top is not folder:
            self._note("single_folder", top, "the only folder; the classes are those in it")
        return top

    def _note(self, kind: str, folder: Folder, detail: str, count: int = 1) -> None:
        self.notes.append(noted(kind, folder.path.rstrip("/"), detail, count))

    def _class_cells(self, roots: Layer) -> _Cells:
        """Return label and split of the class folders, and of the splits in them."""
        layer = inside(roots)
        for _ in range(self.source.options.class_level - 1):
            layer = inside(with_splits(layer, self._given()))
        cells: _Cells = {folder: (folder.name, split) for folder, split in layer}
        classes = [folder for folder in cells if folder.total]
        if self.source.options.class_level:
            self._note_inner(classes)
            return cells
        parts = {part: folder.name for folder in classes for part in folder.filled()}
        is_deep = any(folder.files for folder in classes) or any(part.filled() for part in parts)
        splits = [] if is_deep else with_splits([(part, None) for part in parts], self._given())
        if any(split for _, split in splits) and not named(classes):
            return cells | {part: (parts[part], split) for part, split in splits}
        if len({folder.name for folder in classes}) >= self.source.least_classes:
            check_folders([root for root, _ in roots], classes)
        self._note_inner(classes)
        return cells

    def _note_inner(self, classes: Iterable[Folder]) -> None:
        """Note the folders in class folders, whose images are of the class, too."""
        for folder in classes:
            for inner in folder.filled():
                images = plural(inner.total, "image")
                detail = f"{folder.name} holds the folder {inner.name}: {images}"
                self._note("inner_folder", inner, detail, inner.total)

    def _items(self, cells: _Cells) -> list[Item]:
        """Return the items with the label and the split of the folder that they are in."""
        items: list[Item] = []
        waiting: list[tuple[Folder, str | None, str | None]] = [(self.tree, None, None)]
        while waiting:
            folder, label, split = waiting.pop()
            label, split = cells.get(folder, (label, split))
            items += [item.placed(label, split) for item in folder.files]
            waiting += [(below, label, split) for below in folder.filled()]
        return items

    def _without_labels(self, roots: Layer, items: Iterable[Item]) -> set[str]:
        """Return and note the held-out splits that have no class of train."""
        labels: dict[str | None, set[str]] = {split: set() for _, split in roots}
        for item in items:
            if item.label and item.split in labels:
                labels[item.split].add(item.label.lower())
        train = labels.get(names.TRAIN)
        unlabelled = {split for split in labels if split and train and not train & labels[split]}
        for folder, split in roots:
            if split in unlabelled:
                detail = "in no folder of a class of train, so that they have no label"
                self._note("unlabelled_folder", folder, detail, folder.total)
        return unlabelled


def labelled(items: Sequence[Item], pattern: str) -> list[Item]:
    """Return the items with the labels that a pattern finds in their paths, None for none."""
    expression = re.compile(pattern)
    matches = ((item, expression.search(item.path)) for item in items)
    return [item.placed((match and match[1]) or None, item.split) for item, match in matches]


def check_folders(roots: Sequence[Folder], classes: Sequence[Folder]) -> None:
    """Check that the folders in the roots, the top or the splits, are the classes.

    Raises Ambiguity if other folders or only some of them may be the classes.
    """
    inner = parts(classes)
    splits = named(classes)
    others = [folder for folder in classes if folder not in splits]
    if inner and splits:
        problem = f"and {join_names(_names(others))} beside them do not"
        if not others:
            problem = (
                "but not one folder for each, with train among them, and the same rest of the name"
            )
        why = f"{join_names(_names(splits))} name splits, {problem}"
        # A split without two classes is rather one of the classes.
        is_filled = any(len(folder.passed().names()) > 1 for folder in splits)
        ways = [_way_to_splits(splits, others)] if is_filled else []
        raise Ambiguity(why, *ways, _FIRST_LEVEL)
    if inner:
        shown = _names([part for folders in inner.values() for part in folders])
        around = join_names(_names(inner))
        why = f"folders of images ({join_names(shown)}) are in {around}"
        ways = _ways_inside(roots[0], classes, inner)
        raise Ambiguity(f"{why}, so that either may be the classes", *ways)
    for beside in companions(classes):
        files = f"many files, those of {beside},"
        why = f"{files} are called as others of their class, as masks are"
        raise Ambiguity(why, _FIRST_LEVEL | {"skip": (beside,)}, _FIRST_LEVEL)
    for folders in (root.filled() for root in roots):
        if _have_same_files(folders):
            shown = [folder.name for folder in folders]
            why = f"the files of {join_names(shown)} have the same names throughout"
            pattern = label_pattern(item.path for folder in folders for item in folder.files)
            ways = [{"label_pattern": pattern, "skip": _paths(folders[1:])}] if pattern else []
            raise Ambiguity(f"{why}, as images and their masks have", *ways, _FIRST_LEVEL)


def _names(folders: Iterable[Folder]) -> list[str]:
    return sorted({folder.name for folder in folders})


def _paths(folders: Iterable[Folder]) -> tuple[str, ...]:
    """Return folders as entries of `data.skip`."""
    return tuple(sorted(f"/{folder.path}"[:-1] for folder in folders))


def _way_to_splits(splits: Sequence[Folder], others: Sequence[Folder]) -> Way:
    """Return the likeliest way to read folders of which some name splits, or not one for each."""
    said = [split_of(folder.name) for folder in splits]
    doubled = [folder for folder in splits if said.count(split_of(folder.name)) > 1]
    are_alike = all(folder.names() == splits[0].names() for folder in others)
    if others and not (are_alike and len(splits) == 1):
        return {"skip": _paths(others)}
    if doubled:
        return {"skip": _paths([min(doubled, key=lambda folder: folder.total)])}
    train = max(splits, key=lambda folder: (split_of(folder.name) == names.TRAIN, folder.total))
    given = {folder.name: split_of(folder.name) for folder in splits}
    given |= dict(zip(_names(others), (names.TEST, names.VALIDATION), strict=False))
    given[train.name] = names.TRAIN
    return {"split_folders": tuple(f"{name}={split}" for name, split in given.items())}


def _ways_inside(
    root: Folder, classes: Sequence[Folder], inner: Mapping[Folder, Sequence[Folder]]
) -> list[Way]:
    """Return the likeliest ways to read class folders that hold folders of images."""
    beside = {folder.name.lower() for folder in classes if folder not in inner}
    called = [{part.name.lower() for part in folders} for folders in inner.values()]
    if beside and beside <= set().union(*called):
        return [{"skip": _paths(inner)}, _FIRST_LEVEL]  # the tree stands again in itself
    above = root.path.count("/")
    depths = {part.path.count("/") - above for folders in inner.values() for part in folders}
    by_level: Way = {"class_level": max(depths)}
    if beside or not set.intersection(*called):
        return [_FIRST_LEVEL, by_level]
    return [by_level, _FIRST_LEVEL]


def label_pattern(paths: Iterable[str]) -> str:
    """Return the pattern of the labels that most files have in their names; "" without them."""
    items = [Item(path) for path in paths]
    labels = [item.label for item in labelled(items, _LABEL_IN_NAME) if item.label]
    counts = collections.Counter(labels)
    are_labels = len(counts) > 1 and min(counts.values()) >= _LEAST
    return _LABEL_IN_NAME if are_labels and 2 * len(labels) > len(items) else ""


def named(folders: Sequence[Folder]) -> list[Folder]:
    """Return the folders that name splits; none where they may be classes.

    Such classes are those of a single split that is not plainly train, as in train_station, or as
    in test beside dog.
    """
    called = [folder for folder in folders if split_of(folder.name)]
    is_train = any(are_splits([folder.name, names.TEST]) for folder in called)
    return called if is_train or len({split_of(folder.name) for folder in called}) > 1 else []


def parts(classes: Sequence[Folder]) -> dict[Folder, list[Folder]]:
    """Return the folders in each of these that may be classes, too.

    There are several of them side by side at any depth, or one in a folder that names a split.
    """
    if len({folder.name for folder in classes}) < 2:
        return {}
    inner: dict[Folder, list[Folder]] = {}
    splits = named(classes)
    for folder in classes:
        inside = folder.filled() if folder in splits else folder.words()
        beside = [words for words in map(Folder.words, folder.walk()) if len(words) > 1]
        beside += [inside] if folder in splits and not beside else []
        inner |= {folder: [part for words in beside for part in words]} if any(beside) else {}
    return inner


def companions(classes: Sequence[Folder]) -> list[str]:
    """Return what a third of the files, called as others of their class, have in common.

    It is "*_mask*" where x_mask lies beside x, or the name of a folder.
    """
    counts: collections.Counter[str] = collections.Counter()
    for class_folder in classes:
        direct_stems = {_stem(item) for item in class_folder.files}
        stems = set(_stems(class_folder))
        for folder in class_folder.walk():
            may_hold_masks = folder is not class_folder and not folder.name.isdigit()
            for name in map(_stem, folder.files):
                match = _ENDING.search(name)
                if match and name[: match.start()] in stems:
                    counts[f"*{match[0]}*"] += 1
                elif name in direct_stems and may_hold_masks:
                    counts[folder.name] += 1
    total = sum(class_folder.total for class_folder in classes)
    return [name for name, count in counts.most_common(1) if _MANY * count >= total]


def _have_same_files(folders: Sequence[Folder]) -> bool:
    """Whether folders hold files of the same names throughout, as images and their masks do.

    Names that only count are those of photographs in every class.
    """
    stems = [_stems(folder) for folder in folders[: _KINDS + 1]]
    if not 1 < len(stems) <= _KINDS or len(stems[0]) < _FEW_FILES:
        return False
    return all(others == stems[0] for others in stems) and not _only_count(stems[0])


def _only_count(stems: Sequence[str]) -> bool:
    """Whether names are the same but for numbers, and the numbers at each place leave out none."""
    if len({re.sub(r"\d+", "#", stem) for stem in stems}) > 1:
        return False
    numbers = [map(int, re.findall(r"\d+", stem)) for stem in stems]
    places = [set(at_place) for at_place in zip(*numbers, strict=True)]
    return all(max(place) - min(place) < len(place) for place in places)


def _stems(folder: Folder) -> list[str]:
    """Return the names of all files in a folder without endings, sorted."""
    return sorted(_stem(item) for inner in folder.walk() for item in inner.files)


def _stem(item: Item) -> str:
    return file_names.stem_and_ending(item.path)[0].lower()
