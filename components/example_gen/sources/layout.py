"""How a tree of folders is read: which folders are splits and classes, and what is not used.

`docs/data.md` describes it in half a page, for all sources with paths. Nothing is concluded from
what words mean, but for the names of splits. Where the structure can be read in two ways, the
source is refused, with a command for each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from imgpipe.components.common.image_file import file_names
from imgpipe.components.example_gen.notes import noted
from imgpipe.components.example_gen.settings import SourceOptions
from imgpipe.components.example_gen.sources import folder_tree, no_classes
from imgpipe.components.example_gen.sources.base import EXPECTED_TREE, Item, NoClasses, Scan, listed
from imgpipe.components.example_gen.sources.folder_tree import Folder, Layer, inside
from imgpipe.components.example_gen.sources.readings import (
    Ambiguity,
    SeveralReadings,
    by_names,
    check_classes,
    check_splits,
    labelled,
    levels,
    those_that_read,
)
from imgpipe.components.example_gen.sources.split_names import split_of
from imgpipe.models.finding import Finding
from imgpipe.models.names import feature_names as names

_Cells = dict[Folder, tuple[str | None, str | None]]  # label and split of what is in a folder


def lay_out(
    where: str,
    items: Sequence[Item],
    folders: Iterable[str],
    notes: Iterable[Finding],
    options: SourceOptions,
    descend: bool = True,
    place: Path | None = None,
) -> Scan:
    """Return the scan of items with labels and splits by the folders in which they lie.

    Folders may hold no item; `descend` says whether a single folder around all others is passed;
    `place` is the folder on this machine in which the files are. Paths that are not laid out as
    expected, or can be read in two ways, are a ConfigError.
    """
    every_folder = frozenset(folders)

    def read(chosen: SourceOptions) -> Scan:
        """Return the scan with these options."""
        tree, left_out = folder_tree.of_images(items, every_folder, chosen.skip)
        return _Layout(where, tree, chosen, descend, [*notes, *left_out]).scan()

    try:
        return read(options)
    except Ambiguity as question:
        readings = list(those_that_read(question.readings, options, read))
        why = str(question) + ("" if readings else "; data.class_level or data.skip says which")
        raise SeveralReadings(where, options, why, readings) from None
    except NoClasses as error:
        tree, _ = folder_tree.of_images(items, every_folder, options.skip)
        images = [item for folder in tree.walk() for item in folder.files]
        candidates = [*by_names(images), *levels([tree])]
        readings = list(those_that_read(candidates, options, read))
        raise no_classes.explained(error, where, items, options, readings, place) from None


@dataclass
class _Layout:
    """The reading of a tree."""

    where: str
    tree: Folder
    options: SourceOptions
    descend: bool
    notes: list[Finding] = field(default_factory=list)

    def scan(self) -> Scan:
        """Read the tree; ConfigError where it is not as expected, Ambiguity for several ways."""
        options = self.options
        roots = self._roots()
        pattern = options.label_pattern
        cells = {} if pattern else self._classes(roots)
        split_cells: _Cells = {folder: (None, split) for folder, split in roots}
        items = self._items(split_cells | cells)
        if pattern:
            items = labelled(items, pattern)
        unlabelled = self._without_labels(roots, items)
        items = [item for item in items if item.split not in unlabelled]
        if pattern:
            missed = [item.path for item in items if not item.label]
            self.notes += [
                noted("unlabelled_file", path, "no label in its name") for path in missed
            ]
            items = [item for item in items if item.label]
        labels = {label for label, split in cells.values() if label and split not in unlabelled}
        splits = {split for _, split in (*roots, *cells.values())} - {None, *unlabelled}
        settings = {name: getattr(options, name) for name in ("class_level", "label_pattern")}
        given = [f"data.{name} is {value}" for name, value in settings.items() if value]
        expected = "; ".join([EXPECTED_TREE, *given])
        least = options.least_classes
        return listed(self.where, items, expected, least, self.notes, labels, splits)

    def _roots(self) -> Layer:
        """Return the folders that hold the class folders: those of the splits, or the top."""
        top = self._passed(self.tree) if self.descend else self.tree
        folders = top.filled()
        layer = folder_tree.named([(folder, None) for folder in folders], self._given())
        # Alone, beside loose files.
        if [split_of(folder.name) for folder in folders] == [names.TRAIN]:
            layer = [(folders[0], names.TRAIN)]
        splits = {split for _, split in layer}
        if not splits or None in splits or len(splits) < len(layer):
            if not self.options.class_level and not self.options.label_pattern:
                check_splits(top)
            return [(top, None)]
        # A single folder in a split is passed, unless it has the name of a class in another split.
        several = [folder.names() for folder, _ in layer if len(folder.filled()) > 1]
        classes = set[str]().union(*several)
        return [(self._passed(folder, classes), split) for folder, split in layer]

    def _given(self) -> dict[str, str]:
        """Return the splits that `data.split_folders` gives to names of folders."""
        return dict(entry.rsplit("=", 1) for entry in self.options.split_folders)

    def _passed(self, folder: Folder, classes: Set[str] = frozenset()) -> Folder:
        """Return the folder that holds classes or splits, and note single folders around them."""
        top = folder.passed(classes)
        if top is not folder:
            self._note("single_folder", top, "the only folder; the classes are those in it")
        return top

    def _note(self, kind: str, folder: Folder, detail: str, count: int = 1) -> None:
        self.notes.append(noted(kind, folder.path.rstrip("/"), detail, count))

    def _classes(self, roots: Layer) -> _Cells:
        """Return label and split of the class folders, and of the splits in them."""
        layer = inside(roots)
        for _ in range(self.options.class_level - 1):
            layer = inside(folder_tree.named(layer, self._given()))
        cells: _Cells = {folder: (folder.name, split) for folder, split in layer}
        for folder in cells:
            if not folder.total:
                self._note("empty_class", folder, "no file in it")
        if self.options.class_level:
            return cells
        classes = [(folder, split) for folder, split in layer if folder.total]
        parts = {part: folder.name for folder, _ in classes for part in folder.filled()}
        is_deep = any(folder.files for folder, _ in classes) or any(part.filled() for part in parts)
        splits = [] if is_deep else folder_tree.named([(p, None) for p in parts], self._given())
        if any(split for _, split in splits):
            return cells | {part: (parts[part], split) for part, split in splits}
        if len({folder.name for folder, _ in classes}) >= self.options.least_classes:
            check_classes([root for root, _ in roots], [folder for folder, _ in classes])
        return cells

    def _items(self, cells: _Cells) -> list[Item]:
        """Return the items with the label and the split of the folder that they are in.

        A file beside the class folders counts as an image only if its name says so: README is none.
        """
        items: list[Item] = []
        others: list[str] = []
        waiting: list[tuple[Folder, str | None, str | None]] = [(self.tree, None, None)]
        while waiting:
            folder, label, split = waiting.pop()
            label, split = cells.get(folder, (label, split))
            inner = folder.filled()
            for item in folder.files:
                if label or not inner or file_names.is_image(item.path):
                    items.append(item.placed(label, split))
                else:
                    others.append(item.path)
            waiting += [(below, label, split) for below in inner]
        if others:
            detail = "beside the folders, and no image by its name"
            self.notes.append(noted("other_files", min(others), detail, len(others)))
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
