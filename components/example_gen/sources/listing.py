"""The scan of items that have labels and splits, which all kinds of sources end with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from imgpipe.components.common.formatting import join_names, plural
from imgpipe.components.example_gen.settings import SourceOptions
from imgpipe.components.example_gen.sources.base import Item, Scan
from imgpipe.components.example_gen.sources.split_names import split_of
from imgpipe.components.example_gen.sources.tables import check_single_labels
from imgpipe.models.errors import ConfigError
from imgpipe.models.finding import Finding
from imgpipe.models.names import feature_names as names

EXPECTED_TREE = (
    "expected a folder with one sub-folder for each class (cats/, dogs/), or train/, validation/ "
    "and test/ folders with such sub-folders"
)


class NoClasses(ConfigError):
    """A source has fewer classes than are needed: one, or none."""


_NUMBERS = {1: "one is", 2: "two are"}


def listed(
    source: str,
    items: Iterable[Item],
    expected: str,
    least_classes: int = 2,
    notes: Iterable[Finding] = (),
    classes: Iterable[str] = (),
    splits: Iterable[str | None] = (),
) -> Scan:
    """Create the scan of items that have labels and splits.

    Args:
        source: The source, for messages.
        items: Items in any order.
        expected: What was expected, for messages.
        least_classes: Number of classes that there have to be.
        notes: Notes of the source.
        classes: Classes besides those of the items.
        splits: Splits besides those of the items.

    Raises:
        ConfigError: There are too few classes, or no labelled item, or no image for train, unless
            one class is enough, as for an evaluation.
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


def listed_files(
    source: str, by_file: Mapping[str, Sequence[Item]], expected: str, options: SourceOptions
) -> Scan:
    """Create the scan of the rows of files, by the files' names, which may say the splits.

    The name of a file that is the whole source need not: crash_test_photos.tfrecord. Of several,
    all have to that hold rows without a split, or none, because such rows would count as train;
    otherwise it is a ConfigError, besides those of `listed`.
    """
    files = [name for name, items in by_file.items() if not all(item.split for item in items)]
    given = {name: split_of(name) if len(by_file) > 1 else None for name in files}
    named = [f"{name} ({split})" for name, split in given.items() if split]
    others = [name for name in files if given[name] is None]
    if named and others:
        raise ConfigError(
            f"data source {source!r}: some files name a split ({join_names(named)}) and others "
            f"do not ({join_names(others)}). "
            "Expected a word such as train, validation or test in the name of each file, or in "
            "none. Rename the files, or give the split in a column or feature named split."
        )
    every_item = [
        item if item.split else item.placed(item.label, given[name])
        for name, items in by_file.items()
        for item in items
    ]
    labels = {item.label for item in every_item if item.label}
    check_single_labels(source, labels, options.classes)
    return listed(source, every_item, expected, options.least_classes)
