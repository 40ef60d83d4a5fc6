"""How a tree of folders is read: in the one way that it has, or refused with a command for each.

`docs/data.md` describes it in half a page, for all sources with paths. Where `layout` or the lists
beside the folders ask a question, all readings that a tree may have are tried, in the same way for
every tree, and those that give classes are offered.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import json
import posixpath
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgpipe.components.common.formatting import join_names, plural
from imgpipe.components.common.image_file.file_names import (
    claims_to_be_image,
    is_image,
    without_ending,
)
from imgpipe.components.common.splits import are_splits, split_of
from imgpipe.components.example_gen.notes import noted
from imgpipe.components.example_gen.settings import DataSettings, SourceOptions
from imgpipe.components.example_gen.sources import folder_tree, local_files, tables
from imgpipe.components.example_gen.sources.base import Item, NoClasses, Scan
from imgpipe.components.example_gen.sources.folder_tree import Folder
from imgpipe.components.example_gen.sources.layout import (
    Ambiguity,
    Layout,
    companions,
    labelled,
    named,
    parts,
)
from imgpipe.components.example_gen.sources.validation import check_class_names
from imgpipe.models import names
from imgpipe.models.errors import ConfigError, printable
from imgpipe.models.files.regular_files import open_regular
from imgpipe.models.finding import Finding
from imgpipe.models.settings.section import declared

_SHEETS = (".xlsx", ".xls", ".ods")
_LABELS = ".cls"  # a file beside each image that holds its label, as WebDataset writes
_LISTS_OF = "manifest:"  # before a folder with a list for each split
_PACKED = (*local_files.READ, ".gz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".7z", ".rar")
_MOST_LISTS = 4  # with more, none of them is read
_WRITE = f"write a list (.csv) with the columns path and label ({tables.GUIDE})"
_MOST = 6  # readings that a message shows
#: The name of a file up to its number, as in cat.12.jpg, or behind it, as in 12_frog.png.
_LABELS_IN_NAMES = (
    r"([^/\d]*?[^/\d\W_])[-_. (]*\d+[^/\d]*(?:\.\w+)?$",
    r"(?:^|/)\d+[-_ ]+([^/\d\W][^/\d.]*)(?:\.\w+)?$",
)
_LEAST = 3  # files that each label of a guessed pattern needs at least
_FEW = 4  # folders of which any may be left out
_DEEPEST = 6  # level of folders that may be the classes
#: What a message says of a setting of a reading.
_SAYS = {
    "class_level": "level {}",
    "label_pattern": "labels in the names",
    "root": "files in {}",
    "skip": "without {}",
    "split_folders": "{}",
}


@dataclass(frozen=True)
class Reading:
    """One of the ways in which a source can be read."""

    #: Settings of [data] by name; entries of `skip` are added to those of the user.
    settings: dict[str, Any] = field(default_factory=dict)
    gives: str = ""  # such as its classes
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
            shown = ", ".join(value) if isinstance(value, tuple) else value
            facts.append(_SAYS[name].format(shown))
        facts += filter(None, [self.gives])
        gives = f"classes {join_names(scan.vocabulary)}{splits} ({', '.join(facts)})"
        return dataclasses.replace(self, gives=gives)

    def can_be_typed(self) -> bool:
        """Whether a terminal passes on what the reading names; other names are not UTF-8."""
        named = json.dumps([self.source, self.settings], ensure_ascii=False)
        return printable(named) == named

    def reads_less(self, other: Reading) -> bool:
        """Whether the reading is the other one without some of its folders or lists."""
        if self.source:
            folder = other.source.removeprefix(_LISTS_OF)
            return other.source.startswith(_LISTS_OF) and self.source.startswith(f"{folder}/")
        skipped = set(other.settings.get("skip", ()))
        is_alike = {**self.settings, "skip": ()} == {**other.settings, "skip": ()}
        return is_alike and bool(skipped) and skipped < set(self.settings.get("skip", ()))


class SeveralReadings(ConfigError):
    """A source can be read in several ways, each with other settings of [data]."""

    def __init__(
        self,
        where: str,
        options: SourceOptions,
        why: str,
        readings: Iterable[Reading],
        refused: Iterable[str] = (),
    ) -> None:
        """Say why, and show the command of each reading, or of the first ones."""
        first = list(itertools.islice(readings, _MOST + 1))
        self.readings = first[:_MOST]
        lines = [reading.command(where, options) for reading in self.readings]
        lines += ["or in more ways, which are not shown"] if len(first) > _MOST else []
        choose = "\n  ".join([". Choose one:", *lines]) if lines else ""
        super().__init__("\n".join([f"data source {where!r}: {why}{choose}", *refused]))


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

    @functools.cache
    def tree_without(skip: tuple[str, ...]) -> folder_tree.Contents:
        return folder_tree.of_images(items, every_folder, skip)

    def read(reading: Reading) -> Scan:
        """Return the scan of a reading, by the folders or by the list that is its source."""
        chosen = reading.chosen(options)
        if reading.source:
            from imgpipe.components.example_gen.sources import open_source

            return open_source(reading.source, chosen).listing()
        tree, others, left_out = tree_without(chosen.skip)
        scan = Layout(where, tree, chosen, descend, [*notes, *left_out]).scan()
        if place is None or chosen.class_level or chosen.label_pattern:
            return scan
        more = check_lists(place, others, scan)
        return dataclasses.replace(scan, notes=(*scan.notes, *more))

    try:
        return read(Reading())
    except (Ambiguity, NoClasses) as question:
        tree, others, _ = tree_without(options.skip)
        classes = Layout(where, tree, options, descend).classes()
        is_packed = not Path(where).expanduser().is_dir()
        by_lists = _by_lists(place, others, is_packed) if place else ()
        ways = itertools.chain(by_lists, candidates(tree, classes, others))
        refused: dict[str, None] = {}
        readings = list(itertools.islice(those_that_read(ways, read, refused), _MOST + 1))
        why = str(question).removeprefix(f"data source {where!r}: ")
        why += "" if readings else what_it_holds(tree, others)
        error = SeveralReadings(where, options, why, readings, refused)
        # Nobody looks for the list of an archive in the folder of the cache.
        raise (
            ConfigError(str(error).replace(str(place), "unpacked")) if is_packed else error
        ) from None


def those_that_read(
    readings: Iterable[Reading], read: Callable[[Reading], Scan], refused: dict[str, None]
) -> Iterator[Reading]:
    """Yield the readings with which `read` returns classes, with the classes and splits of each.

    Of several that give the same, the first one counts, and of those that leave out folders, those
    that leave out the fewest. What is said of lists that are not read is added to `refused`.
    """
    before: list[tuple[Reading, Sequence[Item]]] = []
    waiting = collections.deque(readings)
    while waiting:
        reading = waiting.popleft()
        if any(reading.reads_less(other) for other, _ in before) or not reading.can_be_typed():
            continue
        try:
            scan = read(reading)
            check_class_names(scan.source, scan.vocabulary)
        except (ConfigError, Ambiguity) as error:
            # A list may lie elsewhere than its images.
            further = error.readings if isinstance(error, SeveralReadings) else []
            answers = [dataclasses.replace(reading, settings=r.settings) for r in further]
            waiting.extendleft(reversed(answers))
            if reading.source and not further:
                refused.setdefault(str(error))
            continue
        unlabelled = sum(not item.label for item in scan.items)
        is_sensible = 2 * unlabelled <= len(scan.items) and not are_splits(scan.vocabulary)
        root = reading.settings.get("root")  # from which the paths of items start
        is_other = all(
            items != scan.items or other.settings.get("root") != root for other, items in before
        )
        if is_sensible and is_other:
            before.append((reading, scan.items))
            yield reading.tried(scan)


def _by_lists(place: Path, others: Sequence[str], is_packed: bool) -> Iterator[Reading]:
    """Yield the readings by lists in a folder: by those that each hold a split, and by each."""
    packed = ", when the archive is unpacked into the folder unpacked" if is_packed else ""
    lists = _outermost(others, tables.LISTS)
    around = place / posixpath.commonpath([posixpath.dirname(file) for file in lists or [""]])
    if tables.lists_of_splits(around):
        yield Reading(gives=f"a list for each split{packed}", source=f"{_LISTS_OF}{around}")
    texts = _outermost(others, (tables.TEXT,))
    texts = [file for file in texts if tables.lists_files(str(place / file), SourceOptions())]
    for file in (*lists, *texts):
        yield Reading(gives=f"the labels of {file}{packed}", source=str(place / file))


def candidates(tree: Folder, classes: Sequence[Folder], others: Sequence[str]) -> Iterator[Reading]:
    """Yield every reading that folders may have, to be tried.

    Args:
        tree: All images.
        classes: The folders that are the classes where nothing else is said.
        others: Files that are no images by their names.
    """
    asking = parts(classes)
    splits = named(classes)
    # Deeper levels, or names of files, would mix a split that is named with the others.
    depth = max(folder.path.count("/") for folder in tree.walk())
    levels = range(1, 1 + (1 if splits else min(depth, _DEEPEST)))
    patterns = [] if splits else _by_names(i.path for folder in tree.walk() for i in folder.files)
    left_out = [Reading({"skip": paths}) for paths in _left_out(classes, (splits, asking))]
    inner = {folder.name for folders in asking.values() for folder in folders}
    is_pair = len(inner) == 2 and not splits and inner.isdisjoint(folder.name for folder in classes)
    masks = companions(classes)
    in_a_class = sorted(inner.difference(masks)) if is_pair else []
    lists = tuple(f"/{file}" for file in _outermost(others, tables.LISTS))
    yield from [Reading({"skip": lists})] if lists else []
    yield from _as_splits(classes)
    yield from (Reading({"skip": (name,), "class_level": 1}) for name in masks)
    for pattern, reading in itertools.product([] if asking else patterns, left_out):
        if len(reading.settings["skip"]) == len(classes) - 1:  # the labels are in one folder
            yield Reading(pattern.settings | reading.settings)
    by_level = [Reading({"class_level": level}) for level in levels]
    # A folder beside splits is rather left out than a class beside them.
    yield from [*left_out, *by_level] if splits else [*by_level, *left_out]
    yield from (Reading({"skip": (name,), "class_level": 1}) for name in in_a_class)
    yield from patterns


def _left_out(
    classes: Sequence[Folder], groups: Iterable[Iterable[Folder]]
) -> Iterator[tuple[str, ...]]:
    """Yield paths of folders without which the others may be read, the fewest images first."""
    called = sorted({folder.name for folder in classes})
    in_groups = [{folder.name for folder in group} for group in groups]
    ways: list[Iterable[str]] = [*in_groups, *({*called} - group for group in in_groups)]
    if len(called) <= _FEW:
        sizes = range(1, len(called))
        ways = [way for size in sizes for way in itertools.combinations(called, size)]
    skipped = [[folder for folder in classes if folder.name in way] for way in ways]
    for folders in sorted(skipped, key=lambda folders: sum(folder.total for folder in folders)):
        if 0 < len(folders) < len(classes):
            yield tuple(sorted(f"/{folder.path}"[:-1] for folder in folders))


def _as_splits(folders: Sequence[Folder]) -> Iterator[Reading]:
    """Yield the readings of two or three folders of the same classes as splits.

    Train is the one that is called so, or has at least twice as many images as any other.
    """
    train, *others = sorted(
        folders, key=lambda folder: (split_of(folder.name) != names.TRAIN, -folder.total)
    ) or [Folder("", "")]
    is_larger = all(train.total >= 2 * folder.total for folder in others)
    is_train = split_of(train.name) == names.TRAIN or (is_larger and not split_of(train.name))
    are_alike = all(folder.names() == train.names() for folder in others)
    if not is_train or not are_alike or len(train.names()) < 2 or len(others) not in (1, 2):
        return
    for splits in itertools.permutations((names.VALIDATION, names.TEST), len(others)):
        pairs = list(zip(others, splits, strict=True))
        if all(split_of(folder.name) in (None, split) for folder, split in pairs):
            entries = [f"{folder.name}={split}" for folder, split in pairs]
            yield Reading({"split_folders": (f"{train.name}={names.TRAIN}", *entries)})


def _by_names(paths: Iterable[str]) -> list[Reading]:
    """Return the reading by the labels that most images have in their names; none without them."""
    images = [Item(path) for path in paths if claims_to_be_image(path)]
    for pattern in _LABELS_IN_NAMES:
        labels = [item.label for item in labelled(images, pattern) if item.label]
        counts = collections.Counter(labels)
        if len(counts) > 1 and 2 * len(labels) > len(images) and min(counts.values()) >= _LEAST:
            return [Reading({"label_pattern": pattern})]
    return []


def check_lists(place: Path, others: Sequence[str], scan: Scan) -> list[Finding]:
    """Return notes of the files in `place`, no images by their names, that may give labels.

    Raises:
        Ambiguity: A list gives other labels. Its first row names an image, and not the folder that
            it is in.
    """
    lists = [file for file in _outermost(others, tables.LISTS) if _differs(place / file, scan)]
    lists = lists or [file for file in others if file.endswith(_LABELS)]
    if lists:
        why = f"{join_names(lists)} may give other labels than the folders"
        raise Ambiguity(f"{why}; if no command below reads them, {_WRITE}")
    detail = "may give other labels than the folders"
    remedy = "save it as CSV, and name that instead"
    sheets = _outermost(others, _SHEETS)
    notes = [noted("unread_list", file, detail, remedies=[remedy]) for file in sheets]
    return [*notes, *tables.texts_of_images(place)]


def _differs(file: Path, scan: Scan) -> bool:
    """Whether the first row of a list names an image, and its other cells not the folder of it."""
    try:
        _, (_, row) = tables.first_rows(open_regular(file))
    except OSError:
        return False
    labels = [(_inside_out(item.path), item.label.lower()) for item in scan.items if item.label]
    images = {image[0] for image, _ in labels}
    path = next((cell for cell in row if _inside_out(cell)[0] in images), "")
    wanted = _inside_out(path)
    given: set[str] = set()
    for count in range(len(wanted), 0, -1):  # the same name may stand in every folder
        given = given or {label for image, label in labels if image[:count] == wanted[:count]}
    cells = [cell.lower() for cell in row if cell != path]
    said = {part for cell in cells for part in re.split(r"[\\/]", cell)}
    return bool(given and said) and given.isdisjoint(said)


def _inside_out(path: str) -> list[str]:
    """Return the name in a path, without its ending, and the folders from the innermost on."""
    return without_ending(path.replace("\\", "/")).lower().split("/")[::-1]


def _outermost(files: Sequence[str], endings: tuple[str, ...]) -> list[str]:
    """Return the files of a kind that lie above all others; none where they are many."""
    lists = [file for file in files if file.lower().endswith(endings)]
    depth = min((file.count("/") for file in lists), default=0)
    lists = [file for file in lists if file.count("/") == depth]
    return lists if len(lists) <= _MOST_LISTS else []


def what_it_holds(tree: Folder, others: Sequence[str]) -> str:
    """Say what a source holds that no setting reads, and what to do."""
    files = [*(item.path for folder in tree.walk() for item in folder.files), *others]
    images = sorted(filter(claims_to_be_image, files), key=is_image, reverse=True)
    rest = sorted(set(files).difference(images), key=lambda file: (file.count("/"), file))
    packed = [file for file in rest if file.lower().endswith(_PACKED)]
    if packed:
        return f". It holds archives ({join_names(packed)}): unpack each into a folder of its name"
    if not images:
        return (
            f". None of its files is an image: {join_names(rest)}" if rest else ". It holds no file"
        )
    labels = f"; labels may be in {join_names(rest)}" if rest else ""
    return (
        f". It holds images such as {images[0]}{labels}. Make a folder for each class, and move "
        f"its images into it; or {_WRITE}, and name it instead of the folder; or say by "
        "data.label_pattern which part of the names is the label"
    )
