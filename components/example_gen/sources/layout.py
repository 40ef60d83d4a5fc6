"""Rules by which names of folders and files determine classes and splits, for all sources."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

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
#: Words for validation that count in the name of a file without another split: not in train_eval.
_EVALUATION = {"eval", "evaluation"}
#: Names of folders for validation that may as well be classes.
_AMBIGUOUS_FOLDERS = {"dev", *_EVALUATION}
#: Splits by their names in manifests and in names of record files.
SPLIT_WORDS = {
    **SPLIT_FOLDERS,
    **dict.fromkeys(_AMBIGUOUS_FOLDERS, names.VALIDATION),
    "publictest": names.VALIDATION,  # used by FER-2013
    "privatetest": names.TEST,
}
#: Names of record files: x.tfrecord, x.tfrec, x.record-00000-of-00010, data_tfrecord-…-of-….gz.
RECORD_FILE = re.compile(
    r"(tfrecords?|\.tfrec|\.records?)(-[\d?*]+-of-[\d?*]+)?(\.gz)?$", re.IGNORECASE
)
ARCHIVER_LEFTOVERS = {"__MACOSX"}  # metadata folder in archives made on macOS
EXPECTED_TREE = (
    "expected a folder with one sub-folder for each class (cats/, dogs/), or train/, validation/ "
    "and test/ folders with such sub-folders"
)


def is_split(folder: str) -> bool:
    """Whether a folder with this name may be a split."""
    return folder.lower() in SPLIT_FOLDERS


def is_hidden(name: str) -> bool:
    """Whether files and folders with this name are ignored: dot files and archiver metadata."""
    return name.startswith(".") or name in ARCHIVER_LEFTOVERS


def split_in(name: str, remedy: str) -> str | None:
    """Find the split in a file name, such as Split-train/… or sign_mnist_test.csv.

    Args:
        name: The file name, with or without the folders above it.
        remedy: What to do about a name with several splits, for the message.

    Returns:
        The split, None if the name contains no word for one.

    Raises:
        ConfigError: The name contains words for several splits.
    """
    words = SPLIT_WORDS.keys() & re.split(r"[^a-z]+", name.lower())
    found = sorted({SPLIT_WORDS[word] for word in words - _EVALUATION or words})
    if len(found) > 1:
        raise ConfigError(f"data source: the file name {name!r} contains {some(found)}; {remedy}")
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


def some(values: Sequence[str], limit: int = 5) -> str:
    """Join the first `limit` names for a message, and add the number of the others."""
    shown = ", ".join(values[:limit])
    return f"{shown}, … ({len(values) - limit} more)" if len(values) > limit else shown


def given_splits(where: str, folders: Sequence[str]) -> Mapping[str, str]:
    """Decide whether the folders at the root are splits or classes.

    Args:
        where: The source, for messages.
        folders: Names of the folders at the root.

    Returns:
        The split of each folder by its name; empty when the folders are classes.

    Raises:
        ConfigError: Folders of splits are mixed with others, repeated, or there is none for train.
    """
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


def in_order(splits: set[str]) -> tuple[str, ...]:
    """Sort splits in the order of `names.SPLITS`."""
    return tuple(split for split in names.SPLITS if split in splits)
