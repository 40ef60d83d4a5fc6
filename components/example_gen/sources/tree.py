"""Names of folders and files determine classes and splits, by the same rules for all sources."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from imgpipe.components.example_gen.sources.base import Item, Note, Scan
from imgpipe.models import feature_names as names
from imgpipe.models.errors import ConfigError

#: Splits by the lower-case names of folders at the root that are splits, not classes.
SPLIT_FOLDERS = {
    "train": names.TRAIN,
    "training": names.TRAIN,
    "validation": names.VALIDATION,
    "val": names.VALIDATION,
    "valid": names.VALIDATION,
    "test": names.TEST,
    "testing": names.TEST,
}
#: Names of folders for validation that may as well be classes.
_AMBIGUOUS_FOLDERS = {"dev", "eval", "evaluation"}
#: Splits by their names in lists and in names of record files.
SPLIT_WORDS = {**SPLIT_FOLDERS, **dict.fromkeys(_AMBIGUOUS_FOLDERS, names.VALIDATION)}
#: Names of record files: x.tfrecord, x.tfrec, x.record-00000-of-00010, data_tfrecord-…-of-….gz.
RECORD_FILE = re.compile(
    r"(tfrecords?|\.tfrec|\.records?)(-[\d?*]+-of-[\d?*]+)?(\.gz)?$", re.IGNORECASE
)
ARCHIVER_LEFTOVERS = {"__MACOSX"}  # metadata folder in archives made on macOS
EXPECTED_TREE = (
    "expected a folder with one sub-folder for each class (cats/, dogs/), or train/, validation/ "
    "and test/ folders with such sub-folders"
)
_NUMBERS = {1: "one is", 2: "two are"}


def is_split(folder: str) -> bool:
    """Whether a folder with this name may be a split."""
    return folder.lower() in SPLIT_FOLDERS


def is_hidden(name: str) -> bool:
    """Whether files and folders with this name are ignored: dot files and archiver metadata."""
    return name.startswith(".") or name in ARCHIVER_LEFTOVERS


def some(values: Sequence[str], limit: int = 5) -> str:
    """Join the first `limit` names for a message, and add the number of the others."""
    shown = ", ".join(values[:limit])
    return f"{shown}, … ({len(values) - limit} more)" if len(values) > limit else shown


def split_word(word: str, where: str) -> str:
    """Return the split that a row or a record names; an ignored word may mean a held-out image.

    Args:
        word: The word, in any case.
        where: The source and the row, for the message.

    Raises:
        ConfigError: The word is the name of no split.
    """
    try:
        return SPLIT_WORDS[word.lower()]
    except KeyError:
        raise ConfigError(
            f"data source {where}: split {word!r}; expected train, validation or test, or nothing "
            "where it is to be assigned. If it holds something else, rename the column or feature"
        ) from None


def split_in(name: str) -> str | None:
    """Find the split in a file name, such as Split-train/… or sign_mnist_test.csv.

    Args:
        name: The file name, with or without the folders above it.

    Returns:
        The split, None if the name contains no word for one.

    Raises:
        ConfigError: The name contains words for several splits.
    """
    words = SPLIT_WORDS.keys() & re.split(r"[^a-z]+", name.lower())
    found = sorted({SPLIT_WORDS[word] for word in words})
    if len(found) > 1:
        raise ConfigError(
            f"data source: the file name {name!r} contains {some(found)}; expected one of train, "
            "validation and test at most. Rename it, or name the files of one split"
        )
    return found[0] if found else None


def require_all_named(where: str, given: Mapping[str, str | None]) -> None:
    """Check that all files of a source name a split, or none does.

    Images of the other files would count as training images, which they may not be.

    Args:
        where: The source, for messages.
        given: The split that `split_in` found, by the name of each file.

    Raises:
        ConfigError: Some files name a split and others do not.
    """
    others = [name for name, split in given.items() if split is None]
    if others and len(others) < len(given):
        named = [f"{name} ({split})" for name, split in given.items() if split]
        raise ConfigError(
            f"data source {where!r}: some files name a split ({some(named)}) and others do not "
            f"({some(others)}). "
            "Expected a word such as train, validation or test in the name of each file, or in "
            "none. Rename the files, or give the split in a column or feature named split."
        )


def lay_out(
    where: str,
    members: Iterable[Item],
    folders: Iterable[str],
    notes: Iterable[Note] = (),
    least_classes: int = 2,
    descend: bool = True,
) -> Scan:
    """Set labels and splits by the folders in which the items lie.

    A single folder around all others is skipped with a note, because most archives have one.

    Args:
        where: The source, for messages.
        members: Items whose labels and splits are not set.
        folders: Paths of folders, which may hold no item.
        notes: Notes so far.
        least_classes: Number of classes that there have to be.
        descend: Whether a single folder around all others is skipped.

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
    found = [*notes, *(Note("hidden", part) for part in hidden)]
    # Folders without images count too, because an empty folder is a class without images.
    known = {
        path for folder in folders for path in _ancestors(f"{folder}/") if not _hidden_part(path)
    }
    for item in visible:
        known.update(_ancestors(item.path))
    prefix = _wrapper(known) if descend else ""  # above the folders of classes or splits
    if prefix:
        found.append(
            Note(
                "single_folder",
                prefix[:-1],
                "the only folder; those in it are the classes or splits",
            )
        )
    top = _below(known, prefix)
    given = _given_splits(where, top)
    roots = [(f"{prefix}{name}/", given[name]) for name in top] if given else [(prefix, None)]
    classes = {f"{root}{name}/": name for root, _ in roots for name in _below(known, root)}
    items: list[Item] = []
    filled: set[str] = set()
    for item in visible:
        folder, split = _class_folder(item.path, roots)
        items.append(replace(item, label=classes.get(folder), split=split))
        filled.add(folder)
    empty = [path for path in classes if path not in filled]
    found += [Note("empty_class", path.rstrip("/"), "no file in it") for path in empty]
    labels, splits = classes.values(), given.values()
    return listed(where, items, EXPECTED_TREE, least_classes, found, labels, splits)


def listed(
    source: str,
    items: Iterable[Item],
    expected: str,
    least_classes: int = 2,
    notes: Iterable[Note] = (),
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
    found = {item.split for item in ordered}.union(splits)
    given = tuple(split for split in names.SPLITS if split in found)
    if len(vocabulary) < least_classes:
        some_class = f"one class only ({vocabulary[0]})" if vocabulary else "no class"
        raise ConfigError(
            f"data source {source!r}: found {some_class} in {len(ordered)} files, at least "
            f"{_NUMBERS[least_classes]} needed; {expected}"
        )
    if not any(item.label for item in ordered):
        raise ConfigError(
            f"data source {source!r}: found {len(vocabulary)} classes "
            f"({some(vocabulary)}) without a single file; {expected}"
        )
    if least_classes > 1 and not found & {names.TRAIN, None}:
        raise ConfigError(
            f"data source {source!r} gives {some(given)} but no image for train; "
            "leave the split empty where it is to be assigned"
        )
    return Scan(source, ordered, tuple(vocabulary), given, tuple(notes))


def repeated(members: Iterable[Item]) -> tuple[list[Item], list[Note]]:
    """Keep one item for each path, the last one as archivers do, and note the others."""
    last: dict[str, Item] = {}
    times: collections.Counter[str] = collections.Counter()
    for item in members:
        times[item.path] += 1
        last[item.path] = item
    notes = [
        Note("repeated_name", path, f"{count} members of this name; the last one counts")
        for path, count in times.items()
        if count > 1
    ]
    return list(last.values()), notes


def _given_splits(where: str, folders: Sequence[str]) -> Mapping[str, str]:
    """Return the split of each folder at the root by its name; empty when they are classes."""
    given = {name: SPLIT_FOLDERS[name.lower()] for name in folders if is_split(name)}
    others = [name for name in folders if not is_split(name)]
    if names.TRAIN in given.values() and all(name.lower() in _AMBIGUOUS_FOLDERS for name in others):
        given |= dict.fromkeys(others, names.VALIDATION)
        others = []
    if len(set(given.values())) < len(given):
        raise ConfigError(
            f"data source {where!r} has two folders for one split: found "
            f"{some(sorted(given))}; keep one folder for each of train, validation and test"
        )
    # A class may be called "test", and a single folder "train" among others is a class, too.
    if not given or (others and (len(given) == 1 or names.TRAIN not in given.values())):
        return {}
    if others:
        raise ConfigError(
            f"data source {where!r} mixes split folders ({some(sorted(given))}) "
            f"with others ({some(others)}); move the others away, or put every class "
            "folder into a split folder"
        )
    if names.TRAIN not in given.values():
        raise ConfigError(
            f"data source {where!r} holds {some(sorted(given))} but no train "
            "folder; add one, or name the folder that holds the classes"
        )
    return given


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
