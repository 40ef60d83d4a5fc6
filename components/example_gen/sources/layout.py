"""What the folders of a tree are: splits and classes. What can be read in two ways is refused.

`docs/data.md` describes it in half a page, for folders, archives and object stores. Nothing is
concluded from what words mean, but for the names of splits: the settings say it, and the structure.
"""

from __future__ import annotations

import collections
import io
import re
from collections.abc import Iterable, Sequence
from typing import Final

from imgpipe.components.common.formatting import join_names, plural
from imgpipe.components.common.image_file import file_names
from imgpipe.components.common.splits import are_splits, split_of
from imgpipe.components.example_gen.notes import Notes
from imgpipe.components.example_gen.sources.images import BYTE_LIMIT, Item, Listing
from imgpipe.components.example_gen.sources.lists import TEXT, NamedImage, named_images
from imgpipe.components.example_gen.sources.refusal import Level, other_sources, refused
from imgpipe.components.example_gen.sources.tree import Folder, Tree
from imgpipe.components.example_gen.sources.walk import above_of
from imgpipe.models import names
from imgpipe.models.settings.data import DataSettings

#: How a second class is added.
SECOND_FOLDER: Final = "add a folder beside {name}/ with images of what is no {name}"
EXPECTED_TREE: Final = (
    "expected a folder with one sub-folder for each class (cats/, dogs/), or train/, validation/ "
    "and test/ folders with such sub-folders"
)
#: The end of a name that says that the file belongs to another one: x_mask and x_mask_1 beside x.
_ENDING = re.compile(r"[-_. ]+[^\W\d_]+(?=(?:[-_. ]?\d+)?$)")
_MANY = 3  # one in so many files shows that the names mean something
_KINDS = 3  # folders of images, of their masks and, perhaps, of something else
_FEW_FILES = 5  # the names of fewer may be the same by chance
_TONES = 16  # colours of a mask, at most
_MOST_LISTS = 4  # with more, none of them is that of the labels
_LEVELS = 5  # below the source that a refusal shows


#: Folders side by side, each with the split of what is in it.
_Layer = Sequence[tuple[Folder, str | None]]


def lay_out(listing: Listing, tree: Tree, options: DataSettings, least_classes: int) -> None:
    """Add the images of a tree to a listing, with their labels and splits.

    Args:
        listing: Gets items, classes and notes.
        tree: The files.
        options: Settings of the source.
        least_classes: Number of classes that the source needs.

    Raises:
        ConfigError: The tree is not laid out as expected, or can be read in two ways.
    """
    root = Folder.of(tree)
    # An evaluation may have one class, whose images are in folders of their own.
    is_descended = least_classes > 1 or tree.place is None
    roots = _roots(root.passed() if is_descended else root)
    layer = roots
    for _ in range(options.class_level or 1):
        layer = [(inner, split) for folder, split in layer for inner in folder.folders.values()]
    classes = [folder for folder, _ in layer if folder.total]
    lists = named_images(tree.others, tree.head, tree.images)
    why = _not_laid_out(root, roots, classes, tree, options, least_classes)
    if not why:
        items = _with_places(root, roots, [] if options.label_pattern else layer)
        if options.label_pattern:
            items = _labelled(items, options.label_pattern, listing.notes)
            classes = [folder for folder in root.walk() if folder.files]
        else:
            folders = (folder.name for folder, split in layer if split in (None, names.TRAIN))
            listing.classes |= set(folders)
            if not options.class_level:
                several = len({folder.name for folder in classes}) > 1
                lists = _contradicting(lists, items) if several else lists
                shown = join_names([named.file for named in lists])
                why = f"{shown} may give other labels than the folders" if lists else ""
    if why:
        others = other_sources(tree.others, tree.head, tree.place)
        levels = _levels(roots)
        raise refused(listing, why, levels, lists, others, tree.place, options)
    listing.items += items
    _note_others(listing.notes, tree, classes)


def _not_laid_out(
    root: Folder,
    roots: _Layer,
    classes: Sequence[Folder],
    tree: Tree,
    options: DataSettings,
    least_classes: int,
) -> str:
    """Return why a tree cannot be read, or may be read in another way; "" if it is laid out."""
    if not root.total:
        held = f"no image, but {_counted(tree.others)}" if tree.others else "no file"
        return f"found {held}; {EXPECTED_TREE}"
    if options.label_pattern:
        search = re.compile(options.label_pattern).search
        if any(search(item.path) for item in tree.images):
            return ""
        return f"data.label_pattern {options.label_pattern!r} finds no label"
    if not classes:
        images = plural(root.total, "image")
        example = tree.images[0].path
        return f"found {images} in no folder of a class, such as {example}; {EXPECTED_TREE}"
    if options.class_level:
        return ""
    why = _second_reading(classes, least_classes)
    return why or _same_files([folder.filled() for folder, _ in roots], tree)


def _counted(files: Iterable[str]) -> str:
    """Count files by their endings: `12 files (.npy 10, .txt 2)`."""
    endings = collections.Counter(file_names.ending_of(file) or file for file in files)
    shown = [f"{ending} {count:,}" if count > 1 else ending for ending, count in endings.items()]
    return f"{plural(endings.total(), 'file')} ({join_names(shown)})"


def _roots(top: Folder) -> _Layer:
    """Return the folders that hold the class folders: those of the splits, or the top."""
    splits = [(folder, split_of(folder.name)) for folder in top.filled()]
    named = [split for _, split in splits]
    if not are_splits([folder.name for folder, _ in splits]) or len({*named}) < len(named):
        return [(top, None)]
    # A single folder in a split is passed, unless it has the name of a class in another split.
    several = (folder.filled() for folder, _ in splits if len(folder.filled()) > 1)
    classes = {folder.name for folders in several for folder in folders}
    return [(folder.passed(classes), split) for folder, split in splits]


def _with_places(root: Folder, roots: _Layer, classes: _Layer) -> list[Item]:
    """Return all items with the label and the split of the folder that they are in.

    A held-out split without a class of train has no labels.
    """
    of_train = {folder.name.lower() for folder, split in classes if split == names.TRAIN}
    labelled = {split for folder, split in classes if folder.name.lower() in of_train}
    places = {folder: ("", split) for folder, split in roots}
    for folder, split in classes:
        is_labelled = not of_train or split is None or split in labelled
        places[folder] = (folder.name if is_labelled else "", split)
    items: list[Item] = []
    waiting: list[tuple[Folder, tuple[str, str | None]]] = [(root, ("", None))]
    while waiting:
        folder, place = waiting.pop()
        label, split = place = places.get(folder, place)
        items += [item.placed(label or None, split) for item in folder.files]
        waiting += [(below, place) for below in folder.filled()]
    return items


def _labelled(items: Iterable[Item], pattern: str, notes: Notes) -> list[Item]:
    """Return the items in whose paths a pattern finds a label, and note the others."""
    expression = re.compile(pattern)
    labelled = []
    for item in items:
        match = expression.search(item.path)
        if match and match[1]:
            labelled.append(item.placed(match[1], item.split))
        else:
            notes.add("unlabelled_file", item.path, "no label in its name")
    return labelled


def _contradicting(lists: Sequence[NamedImage], items: Iterable[Item]) -> list[NamedImage]:
    """Return the tables whose first row gives an image of the tree another label.

    Of many tables, as one beside each image, none is that of the labels.
    """
    tables = [named for named in lists if not named.file.lower().endswith(TEXT)]
    depth = min((named.file.count("/") for named in tables), default=0)
    tables = [named for named in tables if named.file.count("/") == depth]
    labels = {item.path: item.label for item in items} if tables else {}

    def agrees(named: NamedImage) -> bool:
        given = {label.lower() for path in named.images if (label := labels.get(path))}
        return not given or not given.isdisjoint(named.words)

    return [named for named in tables if not agrees(named)] if len(tables) <= _MOST_LISTS else []


def _note_others(notes: Notes, tree: Tree, classes: Sequence[Folder]) -> None:
    """Note the files that are no images.

    What is in a class folder is left out, unless it belongs to an image there by its name.
    """
    places = {folder.path.rstrip("/") for folder in classes}

    def class_of(path: str) -> str:
        return next((above for above in above_of(path) if above in places), "")

    by_class: dict[str, list[str]] = collections.defaultdict(list)
    for file in tree.others:
        by_class[class_of(file)].append(file)
    images: dict[str, list[str]] = collections.defaultdict(list)
    for item in tree.images if by_class else ():
        images[class_of(item.path)].append(item.path)
    for name, files in by_class.items():
        beside = file_names.companions(files, images[name]) if name else set(files)
        for file in files:
            reason = "beside_images" if file in beside else "no_image"
            if file_names.may_hold_images(file):
                notes.add("may_hold_images", file)
            else:
                ending = file_names.ending_of(file) or file.rpartition("/")[2]
                notes.add(reason, file, shown=ending)


def _second_reading(classes: Sequence[Folder], least_classes: int) -> str:
    """Return why a tree may be read in another way than by these classes; "" if it may not."""
    several = len({folder.name for folder in classes}) > 1
    inner = {}
    if several or least_classes > 1:
        inner = {folder: _side_by_side(folder) for folder in classes}
    inside = sorted(set().union(*inner.values()))
    if inside:
        around = join_names(sorted({folder.name for folder, parts in inner.items() if parts}))
        if are_splits(inside):
            return f"{around} hold splits ({join_names(inside)}); put the classes into the splits"
        why = f"folders of images ({join_names(inside)}) are in {around}"
        return f"{why}, so that either may be the classes"
    below = collections.Counter(part.name for folder in classes for part in folder.words())
    recurring = sorted(name for name, count in below.items() if count > 1)
    if len(recurring) > 1:
        shown = join_names(recurring)
        return f"folders of the same names ({shown}) are in many, so that they may be the classes"
    if several:
        for name in _companions(classes):
            return f"many files, those of {name}, are called as others of their class, as masks are"
    return ""


def _side_by_side(folder: Folder) -> set[str]:
    """Return the names of folders side by side in a folder, at any depth, that may be classes."""
    beside = (inner.words() for inner in folder.walk())
    return {part.name for words in beside if len(words) > 1 for part in words}


def _companions(classes: Sequence[Folder]) -> list[str]:
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


def _same_files(roots: Iterable[Sequence[Folder]], tree: Tree) -> str:
    """Return which folders side by side may be images and their masks; "" for none."""
    for folders in filter(_have_same_files, roots):
        shown = join_names([folder.name for folder in folders])
        why = f"the files of {shown} have the same names throughout, as images and their masks have"
        masks = [folder.name for folder in folders if _has_few_tones(folder, tree)]
        if masks and len(masks) < len(folders):
            why += f"; those of {join_names(masks)} have few tones, as masks have"
        return why
    return ""


def _has_few_tones(folder: Folder, tree: Tree) -> bool:
    """Whether the first image of a folder has few colours."""
    from PIL import Image

    first = next(item for inner in folder.walk() for item in inner.files)
    try:
        with Image.open(io.BytesIO(tree.head(first.path, BYTE_LIMIT))) as image:
            return image.convert("RGB").getcolors(_TONES) is not None
    except Exception:  # Pillow's plugins raise exceptions of any type for broken files
        return False


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


def _levels(roots: _Layer) -> list[Level]:
    """Return what stands at each level below the roots, as `data.class_level` counts."""
    levels: list[Level] = []
    layer = [folder for folder, _ in roots]
    depths = {folder.path.count("/") for folder in layer}
    for number in range(1, _LEVELS + 1):
        pairs = [(folder, inner) for folder in layer for inner in folder.filled()]
        if not pairs:
            break
        by_name: collections.Counter[str] = collections.Counter()
        joined: collections.Counter[str] = collections.Counter()
        parents: dict[str, set[str]] = collections.defaultdict(set)
        for folder, inner in pairs:
            by_name[inner.name] += inner.total
            joined[f"{folder.name}/{inner.name}"] += inner.total
            parents[inner.name].add(folder.name)
        levels.append(Level(f"level {number}", by_name, {"class_level": number}))
        recurs = len(by_name) > 1 and any(len(above) > 1 for above in parents.values())
        if number > 1 and recurs and len(depths) == 1:
            around = "[^/]+/" * (min(depths) + number - 2)
            pattern = f"^{around}([^/]+/[^/]+)/"
            levels.append(
                Level(f"levels {number - 1} and {number}", joined, {"label_pattern": pattern})
            )
        layer = [inner for _, inner in pairs]
    return levels
