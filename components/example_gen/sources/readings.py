"""The readings of a source: the settings that say how it is read, and trees with several of them.

A tree of folders that can be read in two ways is found by its structure. Whatever may read it is
tried, and offered with its command if it gives classes.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from imgpipe.components.common.formatting import join_names, plural
from imgpipe.components.common.image_file.file_names import claims_to_be_image, stem
from imgpipe.components.example_gen.settings import DataSettings, SourceOptions
from imgpipe.components.example_gen.sources.base import Item, Scan
from imgpipe.components.example_gen.sources.folder_tree import Folder
from imgpipe.components.example_gen.sources.split_names import are_splits, split_of
from imgpipe.models.errors import ConfigError
from imgpipe.models.names import feature_names as names
from imgpipe.models.settings.limits import declared

_MOST = 6  # readings that a message shows
#: The end of a name that says that the file belongs to another one: x_mask and x_mask_1 beside x.
_ENDING = re.compile(r"[-_. ]+[^\W\d_]+(?=(?:[-_. ]?\d+)?$)")
_NUMBER = re.compile(r"\d+(?=\D*$)")
#: The name of a file up to its number, as in cat.12.jpg and Abyssinian_12.jpg.
_BEFORE_NUMBER = r"([^/\d]*?[^/\d\W_])[-_. (]*\d+[^/\d]*\.\w+$"
#: The name behind its number, as in 12_frog.png.
_BEHIND_NUMBER = r"(?:^|/)\d+[-_. ]+([^/\d\W][^/\d]*)\.\w+$"
_LEAST = 3  # files that each label of a guessed pattern needs at least
_MANY = 3  # one in so many files shows that the names mean something
_KINDS = 3  # folders of images, of their masks and, perhaps, of something else
_FEW_FILES = 5  # the names of fewer may be the same by chance
_DEEPEST = 6  # level of folders that may be the classes
#: What a message says of a setting of a reading.
_SAYS = {
    "class_level": "level {}",
    "label_pattern": "labels in the names",
    "skip": "without {}",
    "split_folders": "{}",
}


@dataclass(frozen=True)
class Reading:
    """One of the ways in which a source can be read."""

    #: Settings of [data] by name; entries of `skip` are added to those of the user.
    settings: dict[str, Any] = field(default_factory=dict)
    gives: str = ""  # such as its classes; "" before it is tried
    source: str = ""  # another source than the one that is refused, such as a list in it

    def chosen(self, options: SourceOptions) -> SourceOptions:
        """Return the options of the user with the settings of the reading."""
        skip = (*options.skip, *self.settings.get("skip", ()))
        return dataclasses.replace(options, **{**self.settings, "skip": skip})

    def command(self, where: str, options: SourceOptions) -> str:
        """Return what the reading gives, and the command that checks the source in this way."""
        chosen = self.chosen(options)
        words = ["imgpipe check", shlex.quote(self.source or where)]
        for name, declaration in declared(DataSettings).items():
            value = getattr(chosen, name)
            if name != "source" and value != declaration.default:
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                words.append(f"--set {shlex.quote(f'data.{name}={text}')}")
        return f"{self.gives}: {' '.join(words)}"

    def tried(self, scan: Scan) -> Reading:
        """Return the reading that says what its scan gives, and how it differs from others."""
        splits = f" in {join_names(scan.given_splits)}" if scan.given_splits else ""
        facts = [plural(sum(bool(item.label) for item in scan.items), "image")]
        for name, value in self.settings.items():
            shown = join_names(value) if isinstance(value, tuple) else value
            facts.append(_SAYS[name].format(shown))
        gives = f"classes {join_names(scan.vocabulary)}{splits} ({', '.join(facts)})"
        return dataclasses.replace(self, gives=gives)


class Ambiguity(Exception):
    """A tree can be read in several ways; those of `readings` that give classes are offered."""

    def __init__(self, why: str, readings: Iterable[Reading]) -> None:
        """Keep the readings to be tried; the message says why."""
        super().__init__(why)
        self.readings = readings


def those_that_read(
    readings: Iterable[Reading], options: SourceOptions, read: Callable[[SourceOptions], Scan]
) -> Iterator[Reading]:
    """Yield the readings with which `read` returns classes, with the classes and splits of each."""
    for reading in readings:
        try:
            scan = read(reading.chosen(options))
        except (ConfigError, Ambiguity):
            continue
        unlabelled = sum(not item.label for item in scan.items)
        if 2 * unlabelled <= len(scan.items) and not are_splits(scan.vocabulary):
            yield reading.tried(scan)


class SeveralReadings(ConfigError):
    """A source can be read in several ways, each with other settings of [data]."""

    def __init__(
        self, where: str, options: SourceOptions, why: str, readings: Iterable[Reading]
    ) -> None:
        """Say why, and show the command of each reading."""
        lines = [reading.command(where, options) for reading in readings][:_MOST]
        choose = "\n  ".join([". Choose one:", *lines]) if lines else ""
        super().__init__(f"data source {where!r}: {why}{choose}")


def check_splits(top: Folder) -> None:
    """Check that the folders of a tree name splits or classes.

    Raises:
        Ambiguity: Some of them name splits, or several name the same one.
    """
    folders = top.filled()
    named = [folder for folder in folders if split_of(folder.name)]
    others = [folder for folder in folders if not split_of(folder.name)]
    train = [folder for folder in named if split_of(folder.name) == names.TRAIN]
    is_one_split = len({split_of(folder.name) for folder in named}) == 1
    is_whole = any(are_splits([folder.name, names.TRAIN, names.TEST]) for folder in train)
    # Classes such as train_station, or folders without classes.
    if (is_one_split and not is_whole) or not any(map(_words, train if others else named)):
        return
    problem = "but not one folder for each, with train among them, and the same rest of the name"
    left_out = [[folder] for folder in named]
    if others:
        problem = f"and {join_names([folder.name for folder in others])} beside them do not"
        left_out = [others, named]
    why = f"{join_names([folder.name for folder in named])} name splits, {problem}"
    rest = map(_without, left_out)
    # Levels below these folders would mix a split that is named with the others.
    raise Ambiguity(why, [*_as_splits(folders), *rest, *levels(folders)[:1]])


def check_classes(roots: Sequence[Folder], classes: Sequence[Folder]) -> None:
    """Check that the folders in the roots, the top or the splits, are the classes.

    Raises:
        Ambiguity: Other folders or only some of them may be the classes.
    """
    beside = _companions(classes)
    if beside:
        why = f"many files, those of {beside}, are called as others of their class, as masks are"
        raise Ambiguity(why, [_without_named(beside), Reading({"class_level": 1})])
    for root in roots:
        if _have_same_files(root.filled()):
            raise _of_same_files(root.filled(), classes)
    _check_inner_folders(classes)


def _check_inner_folders(classes: Sequence[Folder]) -> None:
    """Raise an Ambiguity for classes that hold several folders with names of their own."""
    parts: set[str] = set()
    holding: list[Folder] = []
    for class_folder in classes:
        inner = [words for words in map(_words, class_folder.walk()) if len(words) > 1]
        parts.update(folder.name for words in inner for folder in words)
        holding += [class_folder] if inner else []
    if not parts or len({folder.name for folder in classes}) == 1:
        return
    around = sorted({folder.name for folder in holding})
    readings = [*_as_splits(classes), *levels(classes), _without(holding)]
    for name in around if len(around) <= _KINDS else ():
        readings.append(_without([folder for folder in classes if folder.name != name]))
    if len(parts) == 2 and not {folder.name for folder in classes} & parts:
        readings += map(_without_named, sorted(parts))  # as images and their masks in each class
    why = f"folders of images ({join_names(sorted(parts))}) are in {join_names(around)}"
    raise Ambiguity(f"{why}, so that either may be the classes", readings)


def levels(folders: Sequence[Folder]) -> list[Reading]:
    """Return the readings in which the folders of a level, down to the deepest, are the classes."""
    depths = [inner.path.count("/") for folder in folders for inner in folder.walk()]
    deepest = min(max(depths, default=0), _DEEPEST)
    return [Reading({"class_level": level}) for level in range(1, deepest + 1)]


def _without(left_out: Sequence[Folder]) -> Reading:
    return Reading({"skip": tuple(sorted(f"/{folder.path}"[:-1] for folder in left_out))})


def _without_named(skipped: str) -> Reading:
    return Reading({"skip": (skipped,), "class_level": 1})


def _as_splits(folders: Sequence[Folder]) -> list[Reading]:
    """Return the readings of two or three folders of the same classes as splits.

    Train is the one that is called so, or has at least twice as many images as any other.
    """
    train, *others = sorted(
        folders, key=lambda folder: (split_of(folder.name) != names.TRAIN, -folder.total)
    )
    is_larger = all(train.total >= 2 * folder.total for folder in others)
    is_train = is_larger if split_of(train.name) is None else split_of(train.name) == names.TRAIN
    are_alike = all(folder.names() == train.names() for folder in others)
    if not is_train or not are_alike or len(train.names()) < 2 or len(others) not in (1, 2):
        return []
    called = [split_of(folder.name) for folder in others]
    readings = []
    for splits in itertools.permutations((names.VALIDATION, names.TEST), len(others)):
        if any(word not in (None, split) for word, split in zip(called, splits, strict=True)):
            continue
        pairs = zip([train, *others], [names.TRAIN, *splits], strict=True)
        entries = tuple(f"{folder.name}={split}" for folder, split in pairs)
        readings.append(Reading({"split_folders": entries}))
    return readings


def _words(folder: Folder) -> list[Folder]:
    """Return the folders in one that may be classes by their names: digits name none."""
    return [inner for inner in folder.filled() if any(map(str.isalpha, inner.name))]


def _companions(classes: Sequence[Folder]) -> str:
    """Return what a third of the files, called as others of their class, have in common.

    It is "*_mask*" where x_mask lies beside x, or the name of a folder; "" for no such files.
    """
    counts: collections.Counter[str] = collections.Counter()
    total = sum(class_folder.total for class_folder in classes)
    for class_folder in classes:
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
    series: dict[str, list[int]] = collections.defaultdict(list)
    for name in stems:
        match = _NUMBER.search(name)
        if match is None:
            return False
        series[_NUMBER.sub("#", name)].append(int(match[0]))
    words = {re.sub(r"\d", "", name) for name in series}
    has_gaps = any(max(numbers) - min(numbers) >= len(numbers) for numbers in series.values())
    return len(words) == 1 and not has_gaps


def _of_same_files(folders: Sequence[Folder], classes: Sequence[Folder]) -> Ambiguity:
    """Return the question of folders with files of the same names, which may hold the labels."""
    shown = join_names([folder.name for folder in folders])
    why = f"the files of {shown} have the same names throughout, as images and their masks have"
    names_of_files = by_names(i for inner in folders[0].walk() for i in inner.files)
    if names_of_files:
        why += "; they begin with several labels, so that the names may tell the classes"
    readings: list[Reading] = []
    for folder in folders:
        alone = _without([beside for beside in classes if beside.name != folder.name])
        by_name = [Reading(named.settings | alone.settings) for named in names_of_files]
        readings += [*by_name, alone]
    return Ambiguity(why, [*readings, *names_of_files, *levels(classes)])


def by_names(items: Iterable[Item]) -> list[Reading]:
    """Return the reading by the labels that most images have in their names; none without them."""
    images = [item for item in items if claims_to_be_image(item.path)]
    for pattern in (_BEFORE_NUMBER, _BEHIND_NUMBER):
        labels = [item.label for item in labelled(images, pattern) if item.label]
        counts = collections.Counter(labels)
        if len(counts) > 1 and 2 * len(labels) > len(images) and min(counts.values()) >= _LEAST:
            return [Reading({"label_pattern": pattern})]
    return []


def labelled(items: Sequence[Item], pattern: str) -> list[Item]:
    """Return the items with the labels that a pattern finds in their paths, None for none."""
    expression = re.compile(pattern)
    matches = ((item, expression.search(item.path)) for item in items)
    return [item.placed((match and match[1]) or None, item.split) for item, match in matches]


def _stems(folders: Iterable[Folder]) -> list[str]:
    return [stem(item.path) for folder in folders for item in folder.files]
