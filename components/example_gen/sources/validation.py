"""Rules for the items of every source: groups, allowed classes and names of classes.

A source only finds its images. `ValidatedSource` wraps a source and applies these rules.
"""

from __future__ import annotations

import collections
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from imgpipe.components.common.formatting import join_names
from imgpipe.components.common.image_row import GROUP_ACROSS_SPLITS, OUTSIDE_CLASSES
from imgpipe.components.common.splits import HELD_OUT_FIRST
from imgpipe.components.example_gen.notes import gathered, noted
from imgpipe.components.example_gen.settings import SourceOptions
from imgpipe.components.example_gen.sources.base import Item, Scan, Source, fingerprint
from imgpipe.models.errors import ConfigError

_FORMAT = "Cf"  # Unicode category of characters that only direct how others are shown


@dataclass(frozen=True)
class ValidatedSource(Source):
    """A source with the rules for all sources applied to it."""

    inner: Source
    options: SourceOptions

    def listing(self) -> Scan:
        """List the items; see `Source.listing`."""
        return validated(self.inner.listing(), self.options)

    def scan(self) -> Scan:
        """List and hash the items, and compute the fingerprint; see `Source.scan`."""
        scan = validated(self.inner.scan(), self.options)
        # Computed here, because the rules change groups, splits and problems, which the keys hold.
        keys = (item.key(item.content) for item in scan.items)
        return replace(scan, fingerprint=fingerprint(keys))

    def read(self, item: Item) -> bytes:
        """Read one item; see `Source.read`."""
        return self.inner.read(item)


def validated(scan: Scan, options: SourceOptions) -> Scan:
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
    pairs = [" and ".join(map(repr, names)) for names in alike.values() if len(names) > 1]
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
