"""The interface of all sources, and the rules for the items of all of them.

A source only finds its images. Groups, allowed classes and names of classes follow the same rules,
whatever the source is. This module does not import TensorFlow, because the command line scans and
hashes a source while the heavy imports load.
"""

from __future__ import annotations

import abc
import collections
import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from imgpipe.components.common.formatting import join_names, plural
from imgpipe.components.common.image_row import GROUP_ACROSS_SPLITS, OUTSIDE_CLASSES
from imgpipe.components.common.splits import HELD_OUT_FIRST
from imgpipe.components.example_gen.notes import gathered, noted
from imgpipe.models import names
from imgpipe.models.errors import ConfigError
from imgpipe.models.finding import Finding
from imgpipe.models.machine import progress
from imgpipe.models.machine.process import computed_ahead
from imgpipe.models.settings.data import DataSettings

#: Length of an `Item.key`, which is a SHA-256.
KEY_BYTES = 32
_HASH_THREADS = 8  # reading waits for the disk, and hashing releases the interpreter lock
_AHEAD = 128  # items that are hashed or wait for their turn
EXPECTED_TREE = (
    "expected a folder with one sub-folder for each class (cats/, dogs/), or train/, validation/ "
    "and test/ folders with such sub-folders"
)
_NUMBERS = {1: "one is", 2: "two are"}
_FORMAT = "Cf"  # Unicode category of characters that only direct how others are shown


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a source."""

    path: str  # relative to the source's root, with forward slashes; unique
    label: str | None = None  # class name, None when the source gives none
    split: str | None = None  # split that the source gives, None when it is to be assigned
    sha256: str = ""  # hex digest of the content, "" when it is not hashed or not readable
    group: str | None = None  # images of one group (a person, a video) must be in the same split
    problem: str = ""  # "<reason>: <detail>" when the source rejects this item
    version: str = ""  # checksum by the store's listing, "" when the content has to be hashed
    locator: str = ""  # says where the image is stored, in a format of the source

    @property
    def content(self) -> str:
        """Hash of the content, or the checksum of a store that was not read; "" for neither."""
        return self.sha256 or self.version

    def placed(self, label: str | None, split: str | None) -> Item:
        """Return the item in a class and a split; `dataclasses.replace` takes twice as long."""
        kept = (self.sha256, self.group, self.problem, self.version, self.locator)
        return Item(self.path, label, split, *kept)

    def key(self, content: str) -> bytes:
        """Fingerprint of everything that determines this item's record.

        Args:
            content: `Item.content`; "" if the content cannot be read.
        """
        parts = [self.path, content, self.label, self.split, self.group, self.problem]
        # As JSON, different parts give different texts, and names that are not UTF-8 are escaped.
        return hashlib.sha256(json.dumps(parts).encode()).digest()


@dataclass(frozen=True)
class Scan:
    """The content of a source at one moment."""

    source: str
    items: Sequence[Item]  # sorted by path
    vocabulary: tuple[str, ...]  # class names in sorted order
    given_splits: tuple[str, ...] = ()  # splits that the source itself names
    notes: tuple[Finding, ...] = ()  # one for each reason in a listing
    fingerprint: str = ""  # hex SHA-256 of all `Item.key`s, which `Source.scan` computes

    def counts(self) -> dict[str, int]:
        """Return the number of files of each class of the vocabulary, before any check."""
        seen = collections.Counter(item.label for item in self.items)
        return {name: seen[name] for name in self.vocabulary}

    def groups(self) -> int:
        """Return the number of different groups."""
        return len({item.group for item in self.items if item.group is not None})


@dataclass(frozen=True)
class Source(abc.ABC):
    """A source of images at a locator. Instances can be pickled, because Beam workers hold one."""

    locator: str
    options: DataSettings = field(default_factory=DataSettings)
    #: Folder of the inspection cache, in which compressed files are unpacked too; "" for none.
    store: str = ""
    least_classes: int = 2  # with fewer the source is refused; one is enough for an evaluation

    @property
    def path(self) -> Path:
        """The locator of a source of files, as a path from the root."""
        return Path(self.locator).expanduser().absolute()

    @abc.abstractmethod
    def unchecked(self) -> Scan:
        """Find all items, for `listing`, which has the rules for all sources."""

    @abc.abstractmethod
    def read(self, item: Item) -> bytes:
        """Read the content of an item of a listing.

        Raises:
            OSError: The content cannot be read.
        """

    def listing(self) -> Scan:
        """List all items without reading contents; hashes are empty.

        Raises:
            ConfigError: The source does not exist or is not laid out as expected.
        """
        return validated(self.unchecked(), self.options)

    def scan(self, listing: Scan | None = None) -> Scan:
        """Hash the contents of the items of a listing that no store gives a checksum of.

        What cannot be read has no hash. Without a listing, the items are listed now, which raises
        as `listing` does.
        """

        def hashed(item: Item) -> Item:
            if item.version:
                return item
            try:
                return replace(item, sha256=self.digest(item))
            except OSError:
                return item

        listing = listing or self.listing()
        progress.total(len(listing.items), "files")
        items = []
        for item in computed_ahead(hashed, listing.items, _HASH_THREADS, _AHEAD):
            items.append(item)
            progress.advance(1, "files")
        keys = fingerprint(item.key(item.content) for item in items)
        return replace(listing, items=items, fingerprint=keys)

    def digest(self, item: Item) -> str:
        """Hex SHA-256 of the content of an item; raises as `read` does."""
        return hashlib.sha256(self.read(item)).hexdigest()


@dataclass(frozen=True)
class SourceKind:
    """One kind of source; a module in this folder lists its kinds in `KINDS`.

    Attributes:
        name: Prefix of a spec, such as "folder" in `folder:PATH`.
        open: Function that opens the source at a locator; for its arguments see `Source`.
        takes: Function that returns whether a path without prefix is of this kind.
        order: Position in which the kinds are asked whether they take a path without prefix.
        is_path: Whether the locator is a path, not a name.
    """

    name: str
    open: Callable[[str, DataSettings, str, int], Source]
    takes: Callable[[str, DataSettings], bool] = lambda locator, options: False
    order: int = 0
    is_path: bool = True


def fingerprint(keys: Iterable[bytes]) -> str:
    """Hex SHA-256 of all `Item.key`s, or of several joined, independent of their order."""
    import numpy as np

    joined = bytearray()  # `join` would hold an object for each key
    for key in keys:
        joined += key
    table = np.frombuffer(joined, f"S{KEY_BYTES}")
    table.sort()  # in place: `joined` is the memory of the table
    return hashlib.sha256(table.data).hexdigest()


class NoClasses(ConfigError):
    """A source has fewer classes than are needed: one, or none."""


def listed(
    source: str,
    items: Iterable[Item],
    expected: str,
    least_classes: int = 2,
    notes: Iterable[Finding] = (),
    classes: Iterable[str] = (),
    splits: Iterable[str | None] = (),
) -> Scan:
    """Create the scan of items in any order, with classes and splits besides those of the items.

    Too few classes, no labelled item, or no image for train, unless one class is enough, as for an
    evaluation, are a ConfigError, which says what was expected.
    """
    ordered = sorted(items, key=lambda item: item.path)
    vocabulary = sorted({item.label for item in ordered if item.label}.union(classes))
    all_splits = {item.split for item in ordered}.union(splits)
    given = tuple(split for split in names.SPLITS if split in all_splits)
    if len(vocabulary) < least_classes:
        some_class = f"one class only ({vocabulary[0]})" if vocabulary else "no class"
        number_of_files = plural(len(ordered), "file")
        raise NoClasses(
            f"data source {source!r}: found {some_class} in {number_of_files}, at least "
            f"{_NUMBERS[least_classes]} needed; {expected}"
        )
    if not any(item.label for item in ordered):
        raise ConfigError(
            f"data source {source!r}: found {len(vocabulary)} classes "
            f"({join_names(vocabulary)}) without a single file; {expected}"
        )
    if least_classes > 1 and not all_splits & {names.TRAIN, None}:
        raise ConfigError(
            f"data source {source!r} gives {join_names(given)} but no image for train; "
            "leave the split empty where it is to be assigned"
        )
    return Scan(source, ordered, tuple(vocabulary), given, tuple(notes))


def validated(scan: Scan, options: DataSettings) -> Scan:
    """Set groups by the pattern, and check labels, names of classes and splits of a source.

    A pattern that matches no path is a ConfigError.
    """
    items = scan.items
    notes = list(scan.notes)
    vocabulary = scan.vocabulary
    if options.group_pattern:
        items, missed = _grouped(scan.source, items, options.group_pattern)
        detail = "data.group_pattern does not match, so that the image is a group of its own"
        notes += [noted("no_group", path, detail) for path in missed]
    if options.classes:
        vocabulary = tuple(sorted(options.classes))
        items = [_within(item, vocabulary) for item in items]
    labels = {item.label for item in items}
    notes += [noted("empty_class", c, "no image in it") for c in vocabulary if c not in labels]
    check_class_names(scan.source, {*scan.vocabulary, *vocabulary})
    items = _one_split_a_group(items)
    return replace(scan, items=items, vocabulary=vocabulary, notes=gathered(notes))


def check_class_names(where: str, classes: Iterable[str]) -> None:
    """Check whether a model can answer with names of classes, and people can tell them apart.

    They are compared in the form NFKC and without case, characters that only direct how others are
    shown, and spaces at the ends. macOS separates letters and accents in the names of files; other
    systems keep what was typed. Single characters may differ in case, because there are sets of
    letters. Letters of other alphabets that look alike are different names.

    Args:
        where: The source, for messages.
        classes: Names of the classes.

    Raises:
        ConfigError: A name is not UTF-8, or names differ only in what nobody sees.
    """
    alike: dict[str, list[str]] = collections.defaultdict(list)
    for name in sorted(classes):
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ConfigError(
                f"data source {where!r}: the class name {name!r} is not UTF-8; rename the class, "
                "because the model answers with its name. If it comes from an archive, unpack that "
                "with the encoding in which it was written (unzip -O), and name the folder"
            ) from None
        shown = (sign for sign in name if unicodedata.category(sign) != _FORMAT)
        seen = " ".join(unicodedata.normalize("NFKC", "".join(shown)).split())
        alike[seen if len(seen) == 1 else seen.casefold()].append(name)
    pairs = [" and ".join(map(repr, same)) for same in alike.values() if len(same) > 1]
    if pairs:
        raise ConfigError(
            f"data source {where!r}: two names of a class look the same, {join_names(pairs)}; they "
            "differ only in case, in spaces, in characters that are not shown or in the Unicode "
            "form of letters. Give both the same name: rename one of the folders, or correct the "
            "list of labels"
        )


def _grouped(where: str, items: Sequence[Item], pattern: str) -> tuple[list[Item], list[str]]:
    """Set groups where the source gives none, and return the paths that do not match as well."""
    expression = re.compile(pattern)
    grouped: list[Item] = []
    missed: list[str] = []
    for item in items:
        match = expression.search(item.path) if item.group is None else None
        if match and match.group(1):
            item = replace(item, group=match.group(1))
        elif item.group is None:
            missed.append(item.path)
        grouped.append(item)
    if missed and len(missed) == len(items):
        raise ConfigError(
            f"data.group_pattern {pattern!r} matches none of the {len(items)} paths of "
            f"{where!r}; expected a match in paths such as {join_names(missed, 3)}"
        )
    return grouped, missed


def _within(item: Item, classes: Sequence[str]) -> Item:
    """Return the item, with a problem when its label is not in `classes`."""
    if item.label is None or item.label in classes or item.problem:
        return item
    detail = f"label {item.label!r} is not in data.classes ({join_names(classes, 8)})"
    return replace(item, problem=f"{OUTSIDE_CLASSES}: {detail}")


def _one_split_a_group(items: Sequence[Item]) -> Sequence[Item]:
    """Ensure that all images of a group are in one split.

    An item without a split gets that of its group. If the source gives a group to several splits,
    the items outside of the first split in `HELD_OUT_FIRST` get a problem.
    """
    given: dict[str, dict[str, str]] = collections.defaultdict(dict)  # a path by group and split
    for item in items:
        if item.group is not None and item.split is not None and not item.problem:
            given[item.group].setdefault(item.split, item.path)
    return [_in_split(item, given[item.group]) if item.group in given else item for item in items]


def _in_split(item: Item, splits: Mapping[str, str]) -> Item:
    """Return an item of a group that the source gives to these splits, each with a path."""
    stays = next(split for split in HELD_OUT_FIRST if split in splits)
    if item.split is None:
        return replace(item, split=stays)
    if item.split == stays or item.problem:
        return item
    detail = (
        f"group {item.group!r} is in {stays} too ({splits[stays]}); this one is in {item.split}"
    )
    return replace(item, problem=f"{GROUP_ACROSS_SPLITS}: {detail}")
