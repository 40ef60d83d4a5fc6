"""Refuses trees of folders that can be read in two ways, by names that stand at several places."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Mapping, Sequence

from imgpipe.components.common.formatting import join_names
from imgpipe.components.common.image_file.file_names import stem
from imgpipe.components.example_gen.sources import labels_in_names
from imgpipe.components.example_gen.sources.folder_tree import Folder
from imgpipe.components.example_gen.sources.readings import OptionChange, TwoReadings
from imgpipe.components.example_gen.sources.split_names import are_splits, split_of
from imgpipe.models.names import feature_names as names

#: The end of a name that says that the file belongs to another one: x_mask and x_mask_1 beside x.
_ENDING = re.compile(r"[-_. ]+[^\W\d_]+(?=(?:[-_. ]?\d+)?$)")
_NUMBER = re.compile(r"\d+(?=\D*$)")
_MANY = 3  # one in so many files shows that the names mean something
_KINDS = 3  # folders of images, of their masks and, perhaps, of something else
_FEW_FILES = 5  # the names of fewer may be the same by chance
_FEW_FOLDERS = 3  # of so many, a message shows how to read each alone
#: Splits besides train, by their number.
_OTHER_SPLITS: dict[int, list[tuple[str, ...]]] = {
    1: [("test",)],
    2: [("val", "test"), ("test", "val")],
}
_CLASSES: OptionChange = {"class_level": 1}  # reads all folders as classes


def check_splits(folders: Sequence[Folder]) -> None:
    """Refuse folders that hold folders and name splits, but not all of them, or not one for each.

    Raises:
        TwoReadings: They may be splits or classes.
    """
    named = [folder for folder in folders if split_of(folder.name)]
    others = [folder for folder in folders if not split_of(folder.name)]
    train = [folder for folder in named if split_of(folder.name) == names.TRAIN]
    is_one_split = len({split_of(folder.name) for folder in named}) == 1
    is_whole = any(are_splits([folder.name, names.TRAIN, names.TEST]) for folder in train)
    if is_one_split and not is_whole:
        return  # classes such as train_station
    problem = "but not one folder for each, with train among them, and the same rest of the name"
    if others:
        problem = f"and {join_names([folder.name for folder in others])} beside them do not"
    if any(map(_words, train if others else named)):
        raise TwoReadings(
            f"{join_names([folder.name for folder in named])} name splits, {problem}",
            *_as_splits(folders),
            _without(others),
            *(_without([folder]) for folder in named if not others),
            _without(named),
            _CLASSES,
        )


def check_classes(roots: Iterable[Folder], classes: Sequence[Folder]) -> None:
    """Refuse a tree whose structure does not say which folders are the classes.

    Args:
        roots: Folders that hold the folders that may be classes: the top, or the splits.
        classes: Folders that may be classes; those of one name, as in two splits, are one class.

    Raises:
        TwoReadings: Other folders may be the classes, or some files may be no images of a class.
    """
    beside = _companions(classes)
    if beside:
        why = f"many files, those of {beside}, are called as others of their class, as masks are"
        raise TwoReadings(why, {"skip": (beside,)}, _CLASSES)
    for root in roots:
        if _have_same_files(root.filled()):
            raise _images_and_masks(root.filled())
    again = _standing_again(classes)
    if again:
        raise _classes_again(classes, again)


def _words(folder: Folder) -> list[Folder]:
    """Return the folders in one that may be classes by their names: digits name none."""
    return [inner for inner in folder.filled() if any(map(str.isalpha, inner.name))]


def _standing_again(classes: Sequence[Folder]) -> dict[Folder, list[Folder]]:
    """Return folders side by side, by class, whose names stand side by side elsewhere, too."""
    places: dict[str, set[str]] = collections.defaultdict(set)
    for class_folder in classes:
        above = class_folder.path[: -len(class_folder.name) - 1]
        for folder in class_folder.walk():
            places[folder.name.lower()].add(folder.path.removeprefix(above).lower())
    again: dict[Folder, list[Folder]] = collections.defaultdict(list)
    for class_folder in classes:
        for folder in class_folder.walk():
            inner = [part for part in _words(folder) if len(places[part.name.lower()]) > 1]
            again[class_folder] += inner if len(inner) > 1 else []
    return {class_folder: folders for class_folder, folders in again.items() if folders}


def _classes_again(
    classes: Sequence[Folder], again: Mapping[Folder, Sequence[Folder]]
) -> TwoReadings:
    """Return the refusal of folders whose names stand at several places."""
    around = sorted({class_folder.name for class_folder in again})
    parts = sorted({folder.name for folders in again.values() for folder in folders})
    depths = [
        1 + inner.path.count("/") - class_folder.path.count("/")
        for class_folder in classes
        for inner in class_folder.walk()
        if inner.files
    ]
    levels = [{"class_level": level} for level in range(2, min(depths) + 1)]
    apart: list[OptionChange] = []
    for name in around if len(around) <= _FEW_FOLDERS else ():
        apart.append(_without(folder for folder in classes if folder.name == name))
        apart.append(_without(folder for folder in classes if folder.name != name))
    within = [{"skip": (name,)} for name in parts] if len(parts) == 2 else []
    why = (
        f"folders of the same names ({join_names(parts)}) stand at several places, among them in "
        f"{join_names(around)}, so that either may be the classes"
    )
    return TwoReadings(why, *_as_splits(classes), *levels, _CLASSES, *apart, *within)


def _companions(classes: Iterable[Folder]) -> str:
    """Return what names the files of which each has the name of another one of its class.

    Returns:
        A pattern such as "*_mask*" where x_mask lies beside x, or the name of the folder in which
        the files have the names of those beside it; "" where less than a third are like that.
    """
    counts: collections.Counter[str] = collections.Counter()
    total = 0
    for class_folder in classes:
        total += class_folder.total
        direct_stems = set(_stems([class_folder]))  # in the folder itself
        stems = direct_stems.union(_stems(class_folder.walk()))
        for folder in class_folder.walk():
            may_hold_masks = folder is not class_folder and not folder.name.isdigit()
            for name in _stems([folder]):
                match = _ENDING.search(name)
                if match and name[: match.start()] in stems:
                    counts[f"*{match[0]}*"] += 1
                elif name in direct_stems and may_hold_masks:
                    counts[folder.name] += 1
    usual = [name for name, count in counts.most_common(1) if _MANY * count >= total]
    return usual[0] if usual else ""


def _have_same_files(folders: Sequence[Folder]) -> bool:
    """Whether folders hold files of the same names throughout, as images and their masks do.

    Names that only count, such as 1.jpg to 9.jpg, are those of photographs in every class.
    """
    totals = {folder.total for folder in folders}
    if not 1 < len(folders) <= _KINDS or len(totals) > 1 or min(totals) < _FEW_FILES:
        return False
    first_stems, *other_stems = (sorted(_stems(folder.walk())) for folder in folders)
    return all(first_stems == stems for stems in other_stems) and not _only_count(first_stems)


def _only_count(stems: Iterable[str]) -> bool:
    """Whether names differ in numbers only, and leave out none: IMG_1 to IMG_9."""
    series: dict[tuple[str, str], list[int]] = collections.defaultdict(list)
    for name in stems:
        match = _NUMBER.search(name)
        if match is None:
            return False
        series[name[: match.start()], name[match.end() :]].append(int(match[0]))
    words = {re.sub(r"\d", "", f"{before}#{behind}") for before, behind in series}
    has_gaps = any(max(numbers) - min(numbers) >= len(numbers) for numbers in series.values())
    return len(words) == 1 and not has_gaps


def _images_and_masks(folders: Sequence[Folder]) -> TwoReadings:
    """Return the refusal of folders with the same files; their names may hold the labels."""
    folder_names = join_names([folder.name for folder in folders])
    why = (
        f"the files of {folder_names} have the same names throughout, "
        "as images and their masks have"
    )
    images = (item for folder in folders[0].walk() for item in folder.files)
    pattern = labels_in_names.pattern_in(images)
    labels: list[OptionChange] = []
    if pattern:
        why += "; they begin with several labels, so that the names may tell the classes"
        for folder in folders:  # each alone
            masks = [beside for beside in folders if beside is not folder]
            labels.append({"label_pattern": pattern, **_without(masks)})
        labels.append({"label_pattern": pattern})
    return TwoReadings(why, *labels, _CLASSES)


def _as_splits(folders: Sequence[Folder]) -> list[OptionChange]:
    """Return the changes that read two or three folders of the same classes as splits.

    Train is the one that is called so, or has at least twice as many images as any other.
    """
    train, *others = sorted(
        folders, key=lambda folder: (split_of(folder.name) != names.TRAIN, -folder.total)
    )
    is_train = split_of(train.name) or all(train.total >= 2 * folder.total for folder in others)
    are_alike = all(folder.names() == train.names() for folder in others)
    if not is_train or not are_alike or len(train.names()) < 2:
        return []
    changes: list[OptionChange] = []
    for words in _OTHER_SPLITS.get(len(others), ()):
        called = {train.name: "train"} | {
            folder.name: word for folder, word in zip(others, words, strict=True)
        }
        if all(split_of(name) in (None, split_of(word)) for name, word in called.items()):
            entries = tuple(f"{name}={word}" for name, word in called.items())
            changes.append({"split_folders": entries})
    return changes


def _without(folders: Iterable[Folder]) -> OptionChange:
    """Return the change that leaves out folders."""
    return {"skip": tuple(sorted(f"/{folder.path}".rstrip("/") for folder in folders))}


def _stems(folders: Iterable[Folder]) -> list[str]:
    return [stem(item.path) for folder in folders for item in folder.files]
