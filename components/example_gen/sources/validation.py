"""What holds for the items of every source: groups, the allowed classes, names that make trouble.

A source only finds its images; `VettedSource` around it reports and settles the rest, by name.
"""

from __future__ import annotations

import collections
import contextlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from imgpipe.components.example_gen.sources.base import (
    Item,
    Note,
    Scan,
    Source,
    SourceOptions,
    fingerprint,
)
from imgpipe.components.example_gen.sources.base import sorted_notes as in_order
from imgpipe.components.example_gen.sources.layout import some
from imgpipe.models import feature_names as names
from imgpipe.models.errors import ConfigError

#: Reasons at the beginning of `Item.problem`.
OUTSIDE_CLASSES = "outside_classes"
GROUP_ACROSS_SPLITS = "group_across_splits"

_LONG_PATH = 255  # bytes; beyond it archivers, Windows and many file systems cut or refuse
_NAMED = 100  # notes of one kind about names; beyond it they are counted
#: Of a group that was given to several splits, the part for evaluation stays.
_PRECEDENCE = (names.TEST, names.VALIDATION, names.TRAIN)


@dataclass(frozen=True)
class VettedSource:
    """A source, and the rules that hold for all of them."""

    inner: Source
    options: SourceOptions

    def listing(self) -> Scan:
        """See `Source.listing`; ConfigError when the options do not fit what is there."""
        with _readable():
            return vet(self.inner.listing(), self.options)

    def scan(self) -> Scan:
        """See `Source.scan`."""
        with _readable():
            found = vet(self.inner.scan(), self.options)
        keys = (item.key(item.sha256) for item in found.items)
        return replace(found, fingerprint=fingerprint(keys))

    def read(self, item: Item) -> bytes:
        """See `Source.read`."""
        return self.inner.read(item)


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Name a file or folder of the source that this user may not read."""
    try:
        yield
    except PermissionError as error:
        raise ConfigError(
            f"data source: {error.filename!r} cannot be read by this user ({error.strerror}); "
            "expected a source with read permission"
        ) from None


def vet(scan: Scan, options: SourceOptions) -> Scan:
    """Groups set, labels and splits checked, odd names noted."""
    items: Sequence[Item] = scan.items
    notes, vocabulary = list(scan.notes), scan.vocabulary
    if options.group_pattern:
        items, missed = _grouped(scan.source, items, options.group_pattern)
        notes += _capped("no_group", missed, "data.group_pattern does not match; its own group")
    if options.classes:
        vocabulary = tuple(sorted(options.classes))
        items = [_within(item, vocabulary) for item in items]
        labels = {item.label for item in items}
        notes = [note for note in notes if note.kind != "empty_class"]
        notes += [Note("empty_class", c, "no file in it") for c in vocabulary if c not in labels]
    items = _one_split_a_group(items)
    notes += _odd_names([item.path for item in items])
    return replace(scan, items=tuple(items), vocabulary=vocabulary, notes=in_order(notes))


def _grouped(where: str, items: Sequence[Item], pattern: str) -> tuple[list[Item], list[str]]:
    """Items with their groups, and the paths that the pattern does not match.

    A group that the source itself names (a manifest's column) stays.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"data.group_pattern {pattern!r} is no regular expression: {error}"
        ) from None
    if not expression.groups:
        raise ConfigError(
            f"data.group_pattern {pattern!r} has no group; put round brackets around the part "
            r"of the path that is the group's name, as in '([^/]+)\.rf\.'"
        )
    grouped, missed = [], []
    for item in items:
        match = expression.search(item.path) if item.group is None else None
        if match and match.group(1):
            grouped.append(replace(item, group=match.group(1)))
            continue
        grouped.append(item)
        if item.group is None:
            missed.append(item.path)
    if missed and len(missed) == len(items):
        raise ConfigError(
            f"data.group_pattern {pattern!r} matches none of the {len(items)} paths of "
            f"{where!r}; expected a match in paths such as {some(missed, 3)}"
        )
    return grouped, missed


def _within(item: Item, classes: Sequence[str]) -> Item:
    """The item, with a problem when its label is none of `classes`."""
    if item.label is None or item.label in classes or item.problem:
        return item
    detail = f"label {item.label!r} is not in data.classes ({some(classes, 8)})"
    return replace(item, problem=f"{OUTSIDE_CLASSES}: {detail}")


def _one_split_a_group(items: Sequence[Item]) -> list[Item]:
    """No group straddles splits, also where the source itself names them.

    An item without a split joins its group's; where the source gives a group to several splits,
    the part for evaluation stays, and the rest has a problem.
    """
    given: dict[str, dict[str, str]] = collections.defaultdict(dict)  # group → split → a path
    for item in items:
        if item.group is not None and item.split is not None and not item.problem:
            given[item.group].setdefault(item.split, item.path)
    settled = []
    for item in items:
        splits = given.get(item.group) if item.group is not None else None
        if splits:
            stays = next(split for split in _PRECEDENCE if split in splits)
            if item.split is None:
                item = replace(item, split=stays)
            elif item.split != stays and not item.problem:
                detail = (
                    f"group {item.group!r} is in {stays} too ({splits[stays]}); this one is in "
                    f"{item.split}"
                )
                item = replace(item, problem=f"{GROUP_ACROSS_SPLITS}: {detail}")
        settled.append(item)
    return settled


def _odd_names(paths: Sequence[str]) -> list[Note]:
    """Notes on names that another system may cut, change or take for one another."""
    once: set[int] = set()  # hashes of names: these are many, and hardly one is met twice
    again: set[int] = set()
    for path in paths:
        key = hash(_folded(path))
        (again if key in once else once).add(key)
    same: dict[str, list[str]] = collections.defaultdict(list)
    for path in paths if again else ():
        if hash(folded := _folded(path)) in again:
            same[folded].append(path)
    notes = []
    collisions = [found for found in same.values() if len(found) > 1]
    for found in collisions[:_NAMED]:
        notes += [
            Note("case_collision", path, f"differs only in case or accents' form from {found[0]}")
            for path in found[1:]
        ]
    notes += _more("case_collision", len(collisions) - _NAMED)
    odd = [path for path in paths if not path.isascii()]
    notes += _capped("non_ascii_name", odd, "not ASCII; other systems may show another name")
    long = [p for p in paths if len(p) > _LONG_PATH // 4 and _bytes(p) > _LONG_PATH]
    notes += _capped("long_name", long, f"longer than {_LONG_PATH} bytes; other systems may cut it")
    return notes


def _folded(path: str) -> str:
    """What names are alike to a system that knows neither case nor the form of accents."""
    return (path if path.isascii() else unicodedata.normalize("NFC", path)).casefold()


def _bytes(path: str) -> int:
    return len(path.encode("utf-8", "surrogateescape"))


def _capped(kind: str, paths: Sequence[str], detail: str) -> Iterator[Note]:
    """A note for each path, up to a number; then one that says how many more there are."""
    yield from (Note(kind, path, detail) for path in paths[:_NAMED])
    yield from _more(kind, len(paths) - _NAMED)


def _more(kind: str, count: int) -> Iterator[Note]:
    if count > 0:
        yield Note(kind, "…", f"and {count} more")
