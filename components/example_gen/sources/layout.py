"""How names of folders and files become classes and splits; shared by all sources with paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from imgpipe.models import feature_names as names
from imgpipe.models.errors import ConfigError

#: Folder names at the root that are splits, not classes (any case).
SPLIT_FOLDERS = {
    "train": names.TRAIN,
    "training": names.TRAIN,
    "validation": names.VALIDATION,
    "val": names.VALIDATION,
    "valid": names.VALIDATION,
    "test": names.TEST,
    "testing": names.TEST,
}
#: Further words for splits, in manifests and in names of record files.
SPLIT_WORDS = {
    **SPLIT_FOLDERS,
    "dev": names.VALIDATION,
    "publictest": names.VALIDATION,  # FER-2013's words
    "privatetest": names.TEST,
}
ARCHIVER_LEFTOVERS = {"__MACOSX"}  # beside the photographs in archives made on a Mac
EXPECTED_TREE = (
    "expected a folder with one sub-folder a class (cats/, dogs/), or train/, validation/ and "
    "test/ folders of those"
)


def is_split(folder: str) -> bool:
    """Whether a folder of this name may be a split."""
    return folder.lower() in SPLIT_FOLDERS


def is_hidden(name: str) -> bool:
    """Whether a name is left out everywhere: dot files and what archivers leave behind."""
    return name.startswith(".") or name in ARCHIVER_LEFTOVERS


def some(values: Sequence[str], limit: int = 5) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(values[:limit])
    return f"{shown}, … ({len(values) - limit} more)" if len(values) > limit else shown


def given_splits(where: str, folders: Sequence[str]) -> Mapping[str, str]:
    """Folder name → split when the root holds splits, empty when it holds classes.

    Raises ConfigError when the folders are neither the one nor the other.
    """
    given = {name: SPLIT_FOLDERS[name.lower()] for name in folders if is_split(name)}
    others = [name for name in folders if not is_split(name)]
    if len(set(given.values())) < len(given):
        raise ConfigError(
            f"data source {where!r} names one split twice: found "
            f"{some(sorted(given))}; keep one folder for each of train, validation and test"
        )
    if not given or (others and names.TRAIN not in given.values()):
        return {}  # a class may be called "test"
    if others and len(given) == 1:
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
    """Splits in the order of `names.SPLITS`."""
    return tuple(split for split in names.SPLITS if split in splits)
