"""Folders and files of the same names at several places, so that a tree can be read in two ways."""

from __future__ import annotations

import collections
import itertools
import re
from collections.abc import Iterable, Sequence

from imgpipe.components.common.image_file.file_names import stem
from imgpipe.components.example_gen.sources.folder_tree import Folder

#: The end of a name that says that the file belongs to another one: x_mask and x_mask_1 beside x.
_ENDING = re.compile(r"[-_. ]+[^\W\d_]+(?=(?:[-_. ]?\d+)?$)")
_NUMBER = re.compile(r"\d+(?=\D*$)")
_MANY = 3  # one in so many files shows that the names mean something
_KINDS = 3  # folders of images, of their masks and, perhaps, of something else
_FEW = 5  # files of a folder; the names of fewer may be the same by chance


def standing_again(classes: Sequence[Folder]) -> dict[Folder, list[Folder]]:
    """Return folders that stand side by side with names that stand side by side elsewhere, too.

    Args:
        classes: Folders that may be classes; those of one name, as in two splits, are one class.

    Returns:
        The folders in each of those that may be classes.
    """
    places: dict[str, set[str]] = collections.defaultdict(set)
    for one in classes:
        above = one.path[: -len(one.name) - 1]
        for folder in one.walk():
            places[folder.name.lower()].add(folder.path.removeprefix(above).lower())
    again: dict[Folder, list[Folder]] = collections.defaultdict(list)
    for one in classes:
        for folder in one.walk():
            inner = [x for x in folder.filled() if _is_word(x) and len(places[x.name.lower()]) > 1]
            again[one] += inner if len(inner) > 1 else []
    return {one: found for one, found in again.items() if found}


def _is_word(folder: Folder) -> bool:
    """Whether the name of a folder may be that of a class among parts of it: digits are none."""
    return any(map(str.isalpha, folder.name))


def companions(classes: Sequence[Folder]) -> str:
    """Return what names the files of which each has the name of another one of its class.

    Returns:
        A pattern such as "*_mask*" where x_mask lies beside x, or the name of the folder in which
        the files have the names of those beside it; "" where less than a third are like that.
    """
    found: collections.Counter[str] = collections.Counter()
    for one in classes:
        inside = [(folder, _stems(folder)) for folder in one.walk()]
        own = set(inside[0][1])  # in the folder itself
        stems = set(itertools.chain.from_iterable(stems for _, stems in inside))
        for folder, names in inside:
            is_part = folder is not one and _is_word(folder)
            for name in names:
                match = _ENDING.search(name)
                if match and name[: match.start()] in stems:
                    found[f"*{match[0]}*"] += 1
                elif is_part and name in own:
                    found[folder.name] += 1
    total = sum(folder.total for folder in classes)
    usual = [name for name, count in found.most_common(1) if _MANY * count >= total]
    return usual[0] if usual else ""


def have_same_files(classes: Sequence[Folder]) -> bool:
    """Whether folders hold files of the same names throughout, as images and their masks do.

    Names that only count, such as 1.jpg to 9.jpg, are those of photographs in every class.
    """
    totals = {one.total for one in classes}
    if not 1 < len(classes) <= _KINDS or len(totals) > 1 or min(totals) < _FEW:
        return False
    first, *others = (
        sorted(itertools.chain.from_iterable(map(_stems, one.walk()))) for one in classes
    )
    return all(first == other for other in others) and not _only_count(first)


def _only_count(stems: Iterable[str]) -> bool:
    """Whether names differ in numbers only, and leave out none: IMG_1 to IMG_9."""
    series: dict[tuple[str, str], list[int]] = collections.defaultdict(list)
    for name in stems:
        match = _NUMBER.search(name)
        if match is None:
            return False
        series[name[: match.start()], name[match.end() :]].append(int(match[0]))
    words = {re.sub(r"\d", "", f"{before}#{behind}") for before, behind in series}
    has_gaps = any(max(found) - min(found) >= len(found) for found in series.values())
    return len(words) == 1 and not has_gaps


def _stems(folder: Folder) -> list[str]:
    return [stem(item.path) for item in folder.files]
