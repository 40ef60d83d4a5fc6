"""How a tree of folders is read: what is skipped, and which folders are splits and classes.

The rules are the same for all sources with paths; `docs/data.md` describes them. Where two readings
are plausible, the source is refused, with the settings for each of them.
"""

from __future__ import annotations

import collections
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from imgpipe.components.example_gen.sources import folder_names
from imgpipe.components.example_gen.sources.base import Item, Note, Scan, SourceOptions
from imgpipe.components.example_gen.sources.folder_names import Meaning, meaning
from imgpipe.components.example_gen.sources.folder_tree import (
    Folder,
    are_twins,
    hold_splits,
    is_around,
    is_data_set,
    repeats,
    share_names,
    split_of,
)
from imgpipe.components.example_gen.sources.split_folders import (
    check_split_folders,
    find_split_folders,
)
from imgpipe.components.example_gen.sources.tree import (
    EXPECTED_TREE,
    LISTS,
    SPLIT_FOLDERS,
    is_hidden,
    is_split,
    listed,
    some,
)
from imgpipe.models.errors import ConfigError

_MANY_SESSIONS = 5  # with as many, each of them may stay in one split
_MOST_READINGS = 3  # folders that a message names with a command each
_SKIPPED = ("skipped_folder", "unlabelled_folder")  # kinds of notes
_PORTIONS = (Meaning.SERIES, Meaning.SESSION)  # what part_1 and part_2 beside a list may be
_Roots = list[tuple[Folder, str | None]]  # folders that hold the classes, each with its split
_Cells = dict[str, tuple[str, str | None]]  # labels and splits by the paths of folders


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
        options: The level of the classes, the skipped folders and the least number of classes.
        descend: Whether a single folder around all others is skipped.

    Returns:
        The scan of the source.

    Raises:
        ConfigError: The paths are not laid out as expected, or can be read in two ways.
    """
    root = Folder("", re.sub(r"\..*", "", where.rstrip("/").rpartition("/")[2]))
    reader = _Reader(where, options, list(notes))
    reader.fill(root, members, folders)
    top = reader.entered(root, descend)
    roots = reader.roots(top)
    cells = reader.cells(roots)
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
            reader.note("empty_class", folder, "no file in it")
    labels = [label for label, _ in cells.values()]
    splits = [split for _, split in (*roots, *cells.values()) if split]
    least = options.least_classes
    expected = EXPECTED_TREE
    if options.class_level:
        expected += f"; data.class_level is {options.class_level}"
    try:
        return listed(where, items, expected, least, reader.notes, labels, splits)
    except ConfigError as error:
        skipped = [one.path for one in reader.notes if one.kind in _SKIPPED]
        if not skipped:
            raise
        raise ConfigError(f"{error}. These folders were skipped: {some(sorted(skipped))}") from None


@dataclass
class _Reader:
    """Finds the meaning of the folders, and notes what is not as simple as it could be."""

    where: str
    options: SourceOptions
    notes: list[Note]

    @property
    def automatic(self) -> bool:
        """Whether nobody said which folder is the class."""
        return not self.options.class_level

    def note(self, kind: str, folder: Folder, detail: str, count: int = 1) -> None:
        """Add a note about a folder."""
        self.notes.append(Note(kind, folder.path.rstrip("/"), detail, count))

    def fill(self, root: Folder, members: Iterable[Item], folders: Iterable[str]) -> None:
        """Build the tree without hidden files and without the folders in `data.skip`."""
        wanted = {name.rstrip("/") for name in self.options.skip}
        wanted = {name if name.startswith("/") else name.lower() for name in wanted}
        skipped: collections.Counter[tuple[str, str]] = collections.Counter()
        by_folder: dict[str, list[Item]] = {}
        for item in members:
            by_folder.setdefault(item.path.rpartition("/")[0], []).append(item)
        for path, files in by_folder.items():
            kind, part = _ignored(path, wanted)
            if kind:
                skipped[kind, part] += len(files)
                continue
            shown = [item for item in files if not is_hidden(item.path.rpartition("/")[2])]
            if len(shown) < len(files):
                hidden = {item.path for item in files}.difference(item.path for item in shown)
                skipped.update(("hidden", file) for file in hidden)
            shown = self._without_masks(path, shown)
            root.at(path, len(shown)).files += shown
        for path in folders:
            if not _ignored(path, wanted)[0]:
                root.at(path)
        for (kind, part), count in skipped.items():
            by_name = kind == "hidden"  # such a folder counts as one, and is not even entered
            detail = "" if by_name else f"{count:,} files: named by data.skip"
            self.notes.append(Note(kind, part, detail, 1 if by_name else count))

    def _without_masks(self, path: str, files: list[Item]) -> list[Item]:
        """Leave out masks that lie beside their images in one folder: x_mask beside x."""
        masks = [item for item in files if folder_names.is_marked(item.path)]
        if not self.automatic or 3 * len(masks) < len(files):
            return files
        images = [item for item in files if not folder_names.is_marked(item.path)]
        if not are_twins(masks, images):
            return files
        detail = f"{len(masks):,} files: masks or the like of the images beside them"
        self.notes.append(Note("skipped_files", path, detail, len(masks)))
        return images

    def entered(
        self, root: Folder, descend: bool, split: str | None = None, classes: Set[str] = frozenset()
    ) -> Folder:
        """Return the folder that holds classes or splits, below single folders around them."""
        folder = root
        around = True
        while around:
            self._leave_out_copies(folder)
            self._leave_out_companions(folder, least=2)
            around = len(folder.folders) == 1
            if around:
                (inner,) = folder.folders.values()
                around = is_around(folder, inner, split, classes) and (descend or bool(split))
                folder = inner if around else folder
        if folder is not root:
            said = "the only folder; those in it are the classes or splits"
            self.note("single_folder", folder, said)
        return folder

    def roots(self, top: Folder) -> _Roots:
        """Return the folders that hold class folders, each with its split; None for no split."""
        given = self._given_splits(top)
        if not given:
            return [(top, None)]
        for folder, _ in given:
            self._leave_out_companions(folder, least=2)
        several = [folder.names() for folder, _ in given if len(folder.folders) > 1]
        classes = set[str]().union(*several)
        return [(self.entered(one, True, split, classes), split) for one, split in given]

    def _given_splits(self, top: Folder) -> _Roots:
        """Return the folders at the root that are splits; empty when they are classes."""
        splits = find_split_folders(top)
        if splits is None:
            return []
        if splits.has_unusual_names:
            said = ", ".join(f"{name} is {split}" for name, split in splits.given.items())
            self.note("split_names", top, said)
        for name in splits.unlabelled:
            folder = top.folders.pop(name)
            detail = f"{folder.total:,} files in no class folder, so that they have no label"
            self.note("unlabelled_folder", folder, detail, folder.total)
        others = [top.folders[name] for name in splits.others]
        check_split_folders(self.where, splits, self._command(skip=others))
        return [(top.folders[name], split) for name, split in splits.given.items()]

    def cells(self, roots: _Roots) -> _Cells:
        """Return the label and the split of each class folder, by its path."""
        tops = [root.folders[name] for root, _ in roots for name in sorted(root.folders)]
        if self.automatic:
            for folder in tops:
                self._leave_out_companions(folder)
            self._check_lists([item for root, _ in roots for item in root.files], tops)
        layer = [(inner, split) for root, split in roots for inner in root.folders.values()]
        for _ in range((self.options.class_level or self._level(tops)) - 1):
            layer = [
                (inner, split or SPLIT_FOLDERS.get(folder.name.lower()))
                for folder, split in layer
                for inner in folder.folders.values()
            ]
        if self.automatic and layer and layer[0][0] not in tops:
            for folder, _ in layer:
                self._leave_out_companions(folder)
        cells: _Cells = {folder.path: (folder.name, split) for folder, split in layer}
        drawn = not any(split for _, split in layer)
        if self.automatic and drawn and hold_splits([folder for folder, _ in layer]):
            self.note("split_names", layer[0][0], "the splits are the folders in the classes")
            for folder, _ in layer:
                for inner in folder.filled():
                    cells[inner.path] = (folder.name, split_of(inner.name))
        return cells

    def _check_lists(self, beside: Sequence[Item], tops: Sequence[Folder]) -> None:
        """Refuse folders of images that are no classes by their names, where a list is beside."""
        outer = [folder.name for folder in tops]
        lists = [item.path for item in beside if item.path.endswith(LISTS)]
        if not lists or len(tops) < 2 or any(folder.folders for folder in tops):
            return
        if all(map(folder_names.is_images, outer)) or meaning(outer) in _PORTIONS:
            raise ConfigError(
                f"data source {self.where!r}: {some(outer)} are hardly the classes of the images "
                f"in them, which {some(lists)} may list. If they are: {self._command(1)}"
            )

    def _level(self, tops: Sequence[Folder]) -> int:
        """Return at which level below the source, or below its splits, the classes are.

        Raises:
            ConfigError: The classes may be at either of two levels.
        """
        level = 1
        layer = [folder for folder in tops if folder.total]
        outer = sorted({folder.name for folder in layer})
        whole_sets = [folder for folder in layer if is_data_set(folder)]
        if whole_sets and meaning(outer) < Meaning.SESSION:
            raise self._apart(whole_sets, layer)
        while share_names(layer):
            inside = [folder.inside() for folder in layer]
            below = [inner for folder in inside for inner in folder.filled()]
            outer = sorted({folder.name for folder in layer})
            inner = sorted({folder.name for folder in below})
            ours = meaning(outer)
            theirs = meaning(inner)
            if theirs > ours and not any(map(is_split, outer)):
                if not all(map(is_split, inner)):
                    detail = f"the folders {some(inner)} are parts of several classes"
                    self.note("parts_of_classes", layer[0], detail)
                break
            depths = {folder.path.count("/") for folder in inside}
            if len(depths) > 1:
                raise self._apart(layer, layer)
            deeper = level + 1 + depths.pop() - layer[0].path.count("/")
            whole = all(folder.filled() and not folder.files for folder in layer)
            unclear = theirs >= Meaning.VIEW and not share_names(below)
            if not whole or ours < Meaning.SESSION or unclear:
                raise self._refusal(
                    f"{some(outer)} hold the same folders ({some(inner)}), so that either may be "
                    "the classes",
                    {
                        f"If the classes are {some(inner)}": self._command(deeper),
                        f"If they are {some(outer)}": self._command(level),
                    },
                )
            detail = f"the classes are the folders {some(inner)} in {some(outer)}"
            if len(tops) >= _MANY_SESSIONS:
                prefix = re.escape(tops[0].path[: -len(tops[0].name) - 1])
                pattern = shlex.quote(f"data.group_pattern=^{prefix}([^/]+)/")
                detail += f". To keep the images of each in one split: --set {pattern}"
            self.notes = [one for one in self.notes if one.kind != "class_level"]
            self.note("class_level", tops[0], detail)
            level = deeper
            layer = below
        return level

    def _apart(self, several: Sequence[Folder], layer: Sequence[Folder]) -> ConfigError:
        """Refuse folders of a layer that hold their own classes, with what reads each of them."""
        readings = {
            f"To read {folder.name} alone": self._command(skip=[f for f in layer if f != folder])
            for folder in several[:_MOST_READINGS]
        }
        held = sorted({name for folder in several for name in folder.inside().folders})
        return self._refusal(
            f"there is a whole data set ({some(held)}) in "
            f"{some([folder.name for folder in several])}, so that this is hardly a class",
            readings | {"To read the folders as classes": self._command(1)},
        )

    def _leave_out_copies(self, folder: Folder) -> None:
        """Leave out a folder that holds the tree again, or refuse it where both may be meant."""
        filled = {inner.name.lower(): inner for inner in folder.filled()}
        copies = {name: inner for name, inner in filled.items() if repeats(inner, filled.keys())}
        originals = filled.keys() - copies.keys()
        copies = {name: inner for name, inner in copies.items() if repeats(inner, originals)}
        if not self.automatic or not copies:
            return
        own = [inner for name, inner in copies.items() if name == folder.name.lower()]
        extra = [inner for inner in copies.values() if folder_names.is_companion(inner.name)]
        for inner in (*own, *extra):
            self._skip(folder, inner, "holds the other folders again")
        unclear = [inner for inner in copies.values() if inner.name in folder.folders]
        if unclear:
            kept = [inner for inner in folder.filled() if inner not in unclear]
            again = some([inner.name for inner in unclear])
            others = some([inner.name for inner in kept])
            readings = {f"To leave out {again}": self._command(skip=unclear)}
            if any(is_split(inner.name) for inner in folder.filled()):  # which are read as splits
                readings[f"To leave out {others}"] = self._command(skip=kept)
            else:
                readings["To read all of them as classes"] = self._command(1)
            raise self._refusal(
                f"{again} beside {others} holds folders of the same names again, so that it is "
                "hardly a class",
                readings,
            )

    def _leave_out_companions(self, folder: Folder, least: int = 0) -> None:
        """Leave out folders of masks, labels, texts and thumbnails that lie beside images."""
        filled = folder.filled()
        if not self.automatic or len(filled) + bool(folder.files) < 2:
            return
        texts = [one for one in filled if one.has_only_texts()]
        pictures = [one for one in filled if one not in texts]
        extra = [one for one in pictures if folder_names.is_companion(one.name)]
        if not texts and not extra:
            return
        main = [one for one in pictures if one not in extra]
        beside = [item for one in main for item in one.everything()]
        if not least:
            beside += folder.files
        beside = [item for item in beside if not folder_names.is_no_image(item.path)]
        if not beside:
            return
        for one in texts:
            self._skip(folder, one, "holds documents or tables, and no image")
        has_images = any(folder_names.is_images(inner.name) for inner in main) or (
            bool(main) and all(split_of(inner.name) for inner in main)
        )
        # In a class, sub-folders may count their files alike, and so have no twins.
        originals = beside if least else folder.files
        for one in extra:
            belongs = "thumbnail" in one.name.lower() or are_twins(one.everything(), originals)
            if has_images or (belongs and len(main) >= least):
                self._skip(folder, one, "belongs to the images beside it")

    def _skip(self, folder: Folder, inner: Folder, why: str) -> None:
        if inner.name in folder.folders:
            del folder.folders[inner.name]
            folder.total -= inner.total
            self.note("skipped_folder", inner, f"{inner.total:,} files: {why}", inner.total)

    def _refusal(self, what: str, readings: Mapping[str, str]) -> ConfigError:
        """Say why a source is refused, with the command for each of its readings."""
        commands = ". ".join(f"{reading}: {command}" for reading, command in readings.items())
        return ConfigError(f"data source {self.where!r}: {what}. {commands}")

    def _command(self, level: int = 0, skip: Sequence[Folder] = ()) -> str:
        """Return the command that reads the source with a class level or without some folders."""
        skipped = [*self.options.skip, *(f"/{folder.path}".rstrip("/") for folder in skip)]
        settings = [f"data.skip={json.dumps(skipped, ensure_ascii=False)}"] if skipped else []
        if level or self.options.class_level:
            settings.append(f"data.class_level={level or self.options.class_level}")
        sets = " ".join(f"--set {shlex.quote(setting)}" for setting in settings)
        return f"imgpipe check {shlex.quote(self.where)} {sets}"


def _ignored(path: str, wanted: set[str]) -> tuple[str, str]:
    """Return the kind of note for an ignored path, and the ignored part; "" and "" for neither."""
    parts = path.split("/")
    for depth, name in enumerate(parts, 1):
        if is_hidden(name):
            return "hidden", "/".join(parts[:depth])
        above = "/".join(parts[:depth])
        if wanted and {name.lower(), above.lower(), f"/{above}"} & wanted:
            return "skipped_folder", above
    return "", ""
