"""The scan of items that have labels and splits, which all kinds of sources end with."""

from __future__ import annotations

from collections.abc import Iterable

from imgpipe.components.common.formatting import join_names, plural
from imgpipe.components.example_gen.sources.base import Item, Scan
from imgpipe.models.errors import ConfigError
from imgpipe.models.finding import Finding
from imgpipe.models.names import feature_names as names

EXPECTED_TREE = (
    "expected a folder with one sub-folder for each class (cats/, dogs/), or train/, validation/ "
    "and test/ folders with such sub-folders"
)


class NoClasses(ConfigError):
    """A source has fewer classes than are needed: one, or none."""

    has_one = False


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
        error = NoClasses(
            f"data source {source!r}: found {some_class} in {number_of_files}, at least "
            f"{_NUMBERS[least_classes]} needed; {expected}"
        )
        error.has_one = bool(vocabulary)
        raise error
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
