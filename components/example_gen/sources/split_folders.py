"""Which folders at the root of a source are its splits, and which are classes.

A folder is a split by its whole name, such as train, or by a word in it, such as Trainingsdaten,
where the folders agree in their classes. A class may be called test, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from imgpipe.components.example_gen.sources import folder_names
from imgpipe.components.example_gen.sources.folder_tree import Folder, split_of
from imgpipe.components.example_gen.sources.tree import (
    NEUTRAL_WORDS,
    is_split,
    some,
    split_words,
    words,
)
from imgpipe.models import feature_names as names
from imgpipe.models.errors import ConfigError


@dataclass(frozen=True)
class SplitFolders:
    """The folders at the root of a source that holds splits.

    Attributes:
        given: Split by the name of its folder.
        others: Names of the folders that are no split.
        unlabelled: Names of the folders whose images have no label, which are left out.
        has_unusual_names: Whether the splits were found by a word in their names.
    """

    given: Mapping[str, str]
    others: Sequence[str]
    unlabelled: Sequence[str]
    has_unusual_names: bool


def find_split_folders(top: Folder) -> SplitFolders | None:
    """Find the folders that are splits.

    Args:
        top: The folder that holds the splits or the classes.

    Returns:
        The splits, or None when the folders are classes.
    """
    by_words = _splits_by_words(top)
    labelled = {name for name, folder in top.folders.items() if folder.classes()}
    unlabelled = _unlabelled(top, labelled, by_words)
    rest = [name for name in sorted(top.folders) if name not in unlabelled]
    given = {name: by_words[name] for name in rest if is_split(name)}
    others = [name for name in rest if name not in given]
    has_unusual_names = bool(others or not given) and _are_splits(top, rest, by_words)
    if has_unusual_names:
        given = {name: by_words[name] for name in rest if name in by_words}
        others = [name for name in rest if name not in given and top.folders[name].total]
    # A class may be called "test", and a single folder "train" among others is a class, too.
    surely = labelled.intersection(by_words)
    alone = len(given) == 1 and not surely.issuperset(rest)
    if not given or (others and (alone or names.TRAIN not in given.values())):
        return None
    return SplitFolders(given, others, unlabelled, has_unusual_names)


def check_split_folders(where: str, splits: SplitFolders, without_others: str) -> None:
    """Refuse two folders for one split, split folders beside others, and no train folder.

    Args:
        where: The source, for messages.
        splits: The folders.
        without_others: Command that reads the source without the folders that are no split.

    Raises:
        ConfigError: The folders are not one for each split, with train among them.
    """
    given = some(sorted(splits.given))
    if len(set(splits.given.values())) < len(splits.given):
        raise ConfigError(
            f"data source {where!r} has two folders for one split: found {given}; keep one folder "
            "for each of train, validation and test"
        )
    if splits.others:
        raise ConfigError(
            f"data source {where!r} mixes split folders ({given}) with others "
            f"({some(splits.others)}); move the others away, or put every class folder into a "
            f"split folder. To leave them out: {without_others}"
        )
    if names.TRAIN not in splits.given.values():
        raise ConfigError(
            f"data source {where!r} holds {given} but no train folder; add one, or name the folder "
            "that holds the classes"
        )


def _splits_by_words(top: Folder) -> dict[str, str]:
    """Return the split that a word in the name of a folder says, by the name."""
    by_words: dict[str, str] = {}
    for name in sorted(top.folders):
        split = split_of(name)
        if split:
            by_words[name] = split
    return by_words


def _unlabelled(top: Folder, labelled: set[str], by_words: Mapping[str, str]) -> list[str]:
    """Return the folders without classes that lie beside a train folder with classes."""
    if not any(by_words.get(name) == names.TRAIN for name in labelled):
        return []
    return [
        name
        for name in sorted(top.folders.keys() - labelled)
        if top.folders[name].total
        and (by_words.get(name, names.TRAIN) != names.TRAIN or folder_names.is_unlabelled(name))
    ]


def _are_splits(top: Folder, folders: Sequence[str], by_words: Mapping[str, str]) -> bool:
    """Whether the folders that name splits by a word agree in their classes or other words."""
    named = [name for name in folders if name in by_words]
    # Several names for one split are classes: passenger_train and freight_train.
    if names.TRAIN not in map(by_words.get, named) or len(set(by_words.values())) == 1:
        return False
    inner = {name: top.folders[name].classes() for name in named}
    known = set[str]().union(*(inner[n] for n in named if by_words[n] == names.TRAIN))
    if any(inner.values()):
        return all(2 * len(own & known) >= len(own) > 0 for own in inner.values())
    others = [set(words(n)).difference(split_words(n), NEUTRAL_WORDS) for n in named]
    alike = len({frozenset(filter(str.isalpha, one)) for one in others}) == 1
    return alike and len(named) == len(folders)
