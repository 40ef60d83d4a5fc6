"""Names of splits, in the names of folders and files and in the cells of tables.

They are train, validation and test, and their usual longer forms, in any case: training_set,
valid, dev, eval, TestImages. The public test of a competition, as that of FER2013, is what people
validate with; the private one is the test.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from imgpipe.components.example_gen.sources.listing import some
from imgpipe.models.errors import ConfigError
from imgpipe.models.names import feature_names as names

_SPLITS = {
    "train": names.TRAIN,
    "val": names.VALIDATION,
    "dev": names.VALIDATION,
    "eval": names.VALIDATION,
    "test": names.TEST,
}
_WORD = re.compile(
    "(?:(train)(?:ings?)?|(val)(?:id|idate|idation)?|(dev)|(eval)(?:uation)?|(test)(?:ing)?)"
    "(?:s|set|data|daten|split|folder|images?|imgs?)?"
)


def words(name: str) -> list[str]:
    """Split a name into words in lower case: TrainImages_2 is train and images."""
    apart = re.sub(r"([^\W\d_A-Z])([A-Z])", r"\1 \2", name)
    return re.findall(r"[^\W\d_]+", apart.lower())


def split_of(name: str) -> str | None:
    """Return the split that the words of a name say; None for none or several."""
    parts = words(name)
    if parts[:2] == ["public", "test"]:
        return names.VALIDATION
    found = filter(None, map(_WORD.fullmatch, parts))
    splits = {_SPLITS[match[match.lastindex or 0]] for match in found}
    return splits.pop() if len(splits) == 1 else None


def are_splits(splits: Iterable[str | None]) -> bool:
    """Whether all of several names say a split, train and another one among them."""
    found = set(splits)
    return None not in found and names.TRAIN in found and len(found) > 1


def given_splits(entries: Iterable[str]) -> dict[str, str]:
    """Return the splits of folders by their names, as `data.split_folders` gives them.

    Raises:
        ConfigError: An entry is not a name and a split.
    """
    found: dict[str, str] = {}
    for entry in entries:
        name, _, word = entry.rpartition("=")
        split = split_of(word)
        if not name or not split:
            raise ConfigError(
                "data.split_folders: expected names of folders with train, validation or test, "
                f"such as 'Prüfung=test'. Received: {entry!r}"
            )
        found[name] = split
    return found


def split_word(word: str, where: str) -> str:
    """Return the split that a row or a record names; an ignored word may mean a held-out image.

    Args:
        word: The word, in any case.
        where: The source and the row, for the message.

    Raises:
        ConfigError: The word is the name of no split.
    """
    split = split_of(word)
    if split is None:
        raise ConfigError(
            f"data source {where}: split {word!r}; expected train, validation or test, or nothing "
            "where it is to be assigned. If it holds something else, rename the column or feature"
        )
    return split


def require_all_named(where: str, given: Mapping[str, str | None]) -> None:
    """Check that all files of a source name a split, or none does.

    Images of the other files would count as training images, which they may not be.

    Args:
        where: The source, for messages.
        given: The split that `split_of` found, by the name of each file.

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
