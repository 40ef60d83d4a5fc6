"""Classes and splits from the paths of items, for sources that are not folders on disk."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from dataclasses import replace

from imgpipe.components.example_gen.sources.base import Item, Note, Scan
from imgpipe.components.example_gen.sources.items import ItemSorter
from imgpipe.components.example_gen.sources.layout import (
    EXPECTED_TREE,
    given_splits,
    in_order,
    is_hidden,
    is_split,
    some,
)
from imgpipe.models import feature_names as names
from imgpipe.models.errors import ConfigError

_NUMBERS = {1: "one is", 2: "two are"}


def lay_out(
    where: str,
    members: Sequence[Item],
    folders: Iterable[str],
    notes: list[Note],
    least_classes: int = 2,
) -> Scan:
    """Set labels and splits as `FolderSource` does for the unpacked tree.

    A single folder around all others is skipped, because most archives have one.

    Args:
        where: The source, for messages.
        members: Items whose labels and splits are not set.
        folders: Paths of folders, which may hold no item.
        notes: Notes so far; further notes are appended.
        least_classes: Number of classes that there have to be.

    Returns:
        The scan of the source.

    Raises:
        ConfigError: The paths are not laid out as expected.
    """
    visible: list[Item] = []
    hidden: set[str] = set()
    for item in members:
        if part := _hidden_part(item.path):
            hidden.add(part)
        else:
            visible.append(item)
    notes += [Note("hidden", part) for part in hidden]
    # Folders without images count too, because an empty folder is a class without images.
    known = {
        path for folder in folders for path in _ancestors(f"{folder}/") if not _hidden_part(path)
    }
    for item in visible:
        known.update(_ancestors(item.path))
    prefix = _wrapper(known)  # above the folders of classes or splits
    top = _below(known, prefix)
    given = given_splits(where, top)
    roots = [(f"{prefix}{name}/", given[name]) for name in top] if given else [(prefix, None)]
    classes = {f"{root}{name}/": name for root, _ in roots for name in _below(known, root)}
    items = ItemSorter()
    filled: set[str] = set()
    for item in visible:
        folder, split = _class_folder(item.path, roots)
        items.add(replace(item, label=classes.get(folder), split=split))
        filled.add(folder)
    empty = [path for path in classes if path not in filled]
    notes += [Note("empty_class", path.rstrip("/"), "no file in it") for path in empty]
    labels, splits = classes.values(), given.values()
    return checked(where, items.sorted(), labels, splits, notes, EXPECTED_TREE, least_classes)


def listed(source: str, items: Iterable[Item], expected: str, least_classes: int = 2) -> Scan:
    """Create the scan of a list of items that have labels and splits.

    Args:
        source: The source, for messages.
        items: Items in any order.
        expected: What was expected, for messages.
        least_classes: Number of classes that there have to be.

    Raises:
        ConfigError: There are too few classes, or no labelled item, or no image for train.
    """
    sorter = ItemSorter()
    sorter.extend(items)
    ordered = sorter.sorted()
    labels = {item.label for item in ordered if item.label}
    splits = {item.split for item in ordered}
    scan = checked(source, ordered, labels, splits, (), expected, least_classes)
    require_train(scan, least_classes)
    return scan


def require_train(scan: Scan, least_classes: int) -> None:
    """Check that a list that gives splits leaves an image for train, unless for an evaluation.

    Raises:
        ConfigError: All images are in other splits.
    """
    if least_classes > 1 and not any(item.split in (names.TRAIN, None) for item in scan.items):
        raise ConfigError(
            f"data source {scan.source!r} gives {some(scan.given_splits)} but no image for train; "
            "leave the split empty where it is to be assigned"
        )


def checked(
    source: str,
    items: Sequence[Item],
    classes: Iterable[str],
    splits: Iterable[str | None],
    notes: Iterable[Note],
    expected: str,
    least_classes: int,
) -> Scan:
    """Create a scan, and check that it has enough classes and a labelled item; see `listed`.

    Raises:
        ConfigError: There are too few classes, or no labelled item.
    """
    given = in_order({split for split in splits if split})
    scan = Scan(source, items, tuple(sorted(set(classes))), given, tuple(notes))
    if len(scan.vocabulary) < least_classes:
        found = f"one class only ({scan.vocabulary[0]})" if scan.vocabulary else "no class"
        raise ConfigError(
            f"data source {source!r}: found {found} in {len(items)} images, at least "
            f"{_NUMBERS[least_classes]} needed; {expected}"
        )
    if not any(item.label for item in items):
        raise ConfigError(
            f"data source {source!r}: found {len(scan.vocabulary)} classes "
            f"({some(scan.vocabulary)}) without a single image; {expected}"
        )
    return scan


def _hidden_part(path: str) -> str:
    """Return the part of a path up to its first hidden name, "" when no name is hidden."""
    parts = path.split("/")
    for depth, name in enumerate(parts):
        if is_hidden(name):
            return "/".join(parts[: depth + 1])
    return ""


def _ancestors(path: str) -> list[str]:
    """Folders above an item, each with a slash at its end."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: depth + 1]) + "/" for depth in range(len(parts))]


def _below(folders: set[str], root: str) -> list[str]:
    """Names of the folders directly below `root` (with its slash)."""
    # Every path ends with a slash, which is no part of the name.
    inside = (path[len(root) : -1] for path in folders if path.startswith(root) and path != root)
    return sorted({name for name in inside if "/" not in name})


def _wrapper(folders: set[str]) -> str:
    """Return the folder (with its slash) around all classes and splits; "" for none."""
    prefix = ""
    while True:
        top = _below(folders, prefix)
        if len(top) != 1 or is_split(top[0]):
            return prefix
        inner = f"{prefix}{top[0]}/"
        if not _below(folders, inner):
            return prefix
        prefix = inner


def _class_folder(path: str, roots: Sequence[tuple[str, str | None]]) -> tuple[str, str | None]:
    """Return the class folder (with its slash) of an item, "" when it is in none, and the split."""
    for root, split in roots:
        if path.startswith(root):
            return path[: path.find("/", len(root)) + 1], split
    return "", None


def repeated(members: Iterable[Item], notes: list[Note]) -> list[Item]:
    """Keep one item for each path, the last one as archivers do.

    Args:
        members: Items, some of which may have the same path.
        notes: Notes, to which one is appended for each repeated path.
    """
    last: dict[str, Item] = {}
    times: collections.Counter[str] = collections.Counter()
    for item in members:
        times[item.path] += 1
        last[item.path] = item
    notes += [
        Note("repeated_name", path, f"{count} members of this name; the last one counts")
        for path, count in times.items()
        if count > 1
    ]
    return list(last.values())
