"""The rules for the items of all sources: classes, splits, groups and names of classes."""

from __future__ import annotations

import collections
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from imgpipe.components.common.formatting import join_names, plural
from imgpipe.components.common.image_row import GROUP_ACROSS_SPLITS, OUTSIDE_CLASSES, Problem
from imgpipe.components.common.splits import HELD_OUT_FIRST
from imgpipe.components.example_gen.sources.images import Images, Item, Listing
from imgpipe.models import names
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.data import DataSettings

_FORMAT = "Cf"  # Unicode category of characters that only direct how others are shown


def checked(listing: Listing, options: DataSettings, least_classes: int) -> Images:
    """Return the images of a listing, with the groups and the problems of its items.

    Args:
        listing: What a reader has found.
        options: Settings of the source.
        least_classes: Number of classes with fewer of which the source is refused.

    Raises:
        ConfigError: The classes, the splits or the pattern of groups cannot be used.
    """
    notes = listing.notes
    items = sorted(listing.items, key=lambda item: item.path)
    items = _without_unlabelled_splits(items, listing)
    classes = {item.label for item in items if item.label} | listing.classes
    splits = {item.split for item in items}
    _require(listing, items, classes, splits, least_classes)
    if options.group_pattern:
        items = _grouped(listing, items, options.group_pattern)
    vocabulary = sorted(options.classes or classes)
    if options.classes:
        items = [_within(item, vocabulary) for item in items]
    labels = {item.label for item in items}
    for name in vocabulary:
        if name not in labels:
            notes.add("empty_class", name)
    check_class_names(listing.source, classes.union(vocabulary))
    return Images(
        listing.source,
        _one_split_a_group(items),
        tuple(vocabulary),
        tuple(split for split in names.SPLITS if split in splits),
        notes.findings(),
        listing.reader,
    )


def _require(
    listing: Listing,
    items: Sequence[Item],
    classes: set[str],
    splits: set[str | None],
    least_classes: int,
) -> None:
    """Refuse too few classes, and a source that gives splits and nothing for train.

    An evaluation needs one class, and no train.
    """
    where = f"data source {listing.source!r}"
    files = plural(len(items), "image")
    labelled = any(item.label for item in items)
    if not classes or not labelled:
        what = f"{files} without a label" if items else "no image"
        raise ConfigError(f"{where} has {what}; {listing.expected}")
    if len(classes) < least_classes:
        (name,) = classes
        raise ConfigError(
            f"{where} has one class, {name} ({files}). A classifier needs a second: "
            f"{listing.second.format(name=name)}"
        )
    if least_classes > 1 and not splits & {names.TRAIN, None}:
        given = join_names([split for split in names.SPLITS if split in splits])
        raise ConfigError(
            f"{where} gives {given} but no image for train; leave the split empty where it is to "
            "be assigned"
        )


def _without_unlabelled_splits(items: list[Item], listing: Listing) -> list[Item]:
    """Leave out the held-out splits in which no image has a label."""
    labelled = {item.split for item in items if item.label}
    if names.TRAIN not in labelled:
        return items
    kept = []
    for item in items:
        if item.split is None or item.split in labelled:
            kept.append(item)
        else:
            listing.notes.add("unlabelled_split", item.path, shown=item.split)
    return kept


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


def _grouped(listing: Listing, items: Sequence[Item], pattern: str) -> list[Item]:
    """Set groups where the source gives none, and note the paths that do not match."""
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
            f"{listing.source!r}; expected a match in paths such as {join_names(missed, 3)}"
        )
    for path in missed:
        listing.notes.add("no_group", path, "the image is a group of its own")
    return grouped


def _within(item: Item, classes: Sequence[str]) -> Item:
    """Return the item, with a problem when its label is not in `classes`."""
    if item.label is None or item.label in classes or item.problem:
        return item
    detail = f"label {item.label!r} is not in data.classes ({join_names(classes, 8)})"
    return replace(item, problem=Problem(OUTSIDE_CLASSES, detail))


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
    return replace(item, problem=Problem(GROUP_ACROSS_SPLITS, detail))
