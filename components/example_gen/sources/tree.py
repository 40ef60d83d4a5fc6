"""Words for splits, names that are ignored, and the scan of items that have labels and splits."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Mapping, Sequence

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
    "validate": names.VALIDATION,
    "test": names.TEST,
    "testing": names.TEST,
}
#: Splits by words in names of files and folders, which may as well be those of classes.
SPLIT_WORDS = {
    **SPLIT_FOLDERS,
    **dict.fromkeys(("dev", "eval", "evaluation"), names.VALIDATION),
    **dict.fromkeys(("trainings", "entrainement", "entraînement", "entrenamiento"), names.TRAIN),
    **dict.fromkeys(("validierung", "validierungs", "validación", "validacion"), names.VALIDATION),
    "prueba": names.TEST,
    "训练": names.TRAIN,
    "验证": names.VALIDATION,
    "测试": names.TEST,
}
#: Names of record files: x.tfrecord, x.tfrec, x.record-00000-of-00010, data_tfrecord-…-of-….gz.
RECORD_FILE = re.compile(
    r"(tfrecords?|\.tfrec|\.records?)(-[\d?*]+-of-[\d?*]+)?(\.gz)?$", re.IGNORECASE
)
LISTS = (".csv", ".tsv", ".jsonl", ".ndjson")  # suffixes of files that may list the classes
#: Names, in lower case, of what systems, network storage and archivers leave among files.
SYSTEM_NAMES = {
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "lost+found"),
    *("$recycle.bin", "recycler", "system volume information", "lost.dir", "found.000"),
    *(
        "__pycache__",
        "@eadir",
        "#recycle",
        "#snapshot",
        "@recycle",
        "@recently-snapshot",
        "@__thumb",
        "@tmp",
    ),
}
EXPECTED_TREE = (
    "expected a folder with one sub-folder for each class (cats/, dogs/), or train/, validation/ "
    "and test/ folders with such sub-folders"
)
#: Words beside that of the split in the name of a split's folder, as in training_set.
NEUTRAL_WORDS = {
    *("set", "data", "dataset", "split", "folder", "samples", "daten", "集", "数据", "数据集"),
    *("image", "images", "img", "imgs", "photo", "photos", "picture", "pictures"),
}
_JOINED = re.compile(
    f"({'|'.join(sorted(SPLIT_WORDS, key=len, reverse=True))})({'|'.join(NEUTRAL_WORDS)})?"
)
_NUMBERS = {1: "one is", 2: "two are"}


def is_split(folder: str) -> bool:
    """Whether a folder with this name may be a split."""
    return folder.lower() in SPLIT_FOLDERS


def is_hidden(name: str) -> bool:
    """Whether files and folders with this name are ignored: dot files and those of systems."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def words(name: str) -> list[str]:
    """Split a name into words and numbers in lower case: TrainImages_2 is train, images and 2."""
    apart = re.sub(r"([^\W\d_A-Z])([A-Z])", r"\1 \2", name)
    return re.findall(r"[^\W\d_]+|\d+", apart.lower())


def split_words(name: str) -> dict[str, str]:
    """Return the words of a name that name a split, such as trainset, each with its split."""
    matches = {word: _JOINED.fullmatch(word) for word in words(name)}
    return {word: SPLIT_WORDS[match[1]] for word, match in matches.items() if match}


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
    found = sorted({*split_words(name).values()})
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
