"""Finds the files that a list names, as a person would who looks into the folder.

A list may leave out the suffix, write it or an accent in another way, come from another machine
with absolute paths, or lie beside the folder of its files. Folders are walked once, and only when
a file is not where the list says.
"""

from __future__ import annotations

import collections
import functools
import itertools
import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from imgpipe.components.common.image_file.file_names import is_hidden
from imgpipe.components.example_gen.sources.base import Note

#: Suffixes that a list may leave out. Of several files, the first is meant: a photograph has its
#: mask as a PNG file beside it.
_SUFFIXES = ("jpg", "png", "webp", "bmp", "gif", "tif", "heic", "heif", "avif", "jfif", "jpe")
_RARE = 10  # one file found among more names than these shows no folder
_SAMPLE = 1000  # names by which the folders that are left out are determined


@dataclass
class FoundFiles:
    """Where the files of a list are.

    Attributes:
        paths: Path below the root by listed name, for those that were found.
        places: Path below the root that a name means, "" when it leads out of the root.
        copies: Paths of several files that one name may mean.
        notes: Other folders than those of the list from which files are read.
    """

    paths: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    copies: list[str] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


def find_files(listed: Iterable[str], root: str) -> FoundFiles:
    """Find the files of different names in a list, which are relative to the absolute `root`.

    Files at other places than the list says are looked for together: the same folders are left
    out at the front of all names, and nothing is taken from elsewhere when some are in place.
    """
    found = FoundFiles()
    root = os.path.normpath(root).rstrip("/")
    missing: dict[str, list[str]] = {}
    for name in listed:
        parts = _parts(name)
        inside = _inside(name, parts, root)
        found.places[name] = inside
        if inside and os.path.lexists(f"{root}/{inside}"):
            found.paths[name] = inside
        else:
            missing[name] = inside.split("/") if inside else parts
    index = _Index(root)
    for name, parts in missing.items():
        alike = index.files(parts, whole=True) if found.places[name] else []
        if len(alike) == 1:
            found.paths[name] = alike[0]
    if missing and not found.paths:
        _find_elsewhere(missing, index, found)
    return found


def _find_elsewhere(names: dict[str, list[str]], index: _Index, found: FoundFiles) -> None:
    """Find files in other folders, by the longest ends of their names that most of them have."""
    levels = zip(*(parts[:-1] for parts in names.values()), strict=False)
    shared = sum(1 for _ in itertools.takewhile(lambda level: len(set(level)) == 1, levels))
    sample = list(names.values())[:: 1 + len(names) // _SAMPLE]

    def count(dropped: int) -> int:
        return sum(bool(index.files(parts[dropped:])) for parts in sample)

    dropped = max(range(shared + 1), key=count)  # the first one of the largest
    ends = {name: parts[dropped:] for name, parts in names.items()}
    matches = ((name, index.files(end)) for name, end in ends.items())
    best = {name: paths for name, paths in matches if paths}
    if not best or _RARE * len(best) < len(names):  # a few names are met anywhere by chance
        return
    folders = ({_folder_above(path, ends[name]) for path in paths} for name, paths in best.items())
    common = set.intersection(*folders)
    home = common.pop() if len(common) == 1 else None
    for name in names.keys() - best.keys():
        if home and ".." not in ends[name]:
            found.places[name] = posixpath.normpath("/".join((home, *ends[name])))
    read: dict[str, list[str]] = collections.defaultdict(list)
    for name, paths in best.items():
        kept = [path for path in paths if home in (None, _folder_above(path, ends[name]))]
        if len(kept) == 1:
            found.paths[name] = kept[0]
            read[_folder_above(kept[0], ends[name])].append(name)
        else:
            found.copies = found.copies or kept
    found.notes += [
        Note("found_elsewhere", folder, f"{of[0]!r} is {found.paths[of[0]]!r}", len(of))
        for folder, of in read.items()
    ]


def _folder_above(path: str, end: Sequence[str]) -> str:
    """Return the folder above the end of a path, "." for the root."""
    return "/".join(path.split("/")[: -len(end)]) or "."


def _parts(name: str) -> list[str]:
    """Return the folders and the file of a name, the first of which may be a drive or a server."""
    # A list from Windows has backslashes alone; beside slashes they are a part of the name.
    if re.match(r"[A-Za-z]:\\|\\\\", name) or "/" not in name:
        name = name.replace("\\", "/")
    parts = posixpath.normpath(re.sub(r"^\w+://", "/", name)).split("/")
    return [part for part in parts if part] or ["unnamed"]


def _inside(name: str, parts: Sequence[str], root: str) -> str:
    """Return the path below the root that a name means, "" when it leads out of it."""
    if "\0" in name or "://" in name or re.match(r"[A-Za-z]:[\\/]|\\\\", name):
        return ""
    # Without resolving links.
    path = os.path.normpath(f"{'' if name.startswith('/') else root}/{'/'.join(parts)}")
    return path[len(root) + 1 :] if path.startswith(f"{root}/") else ""


def _folded(path: str) -> str:
    """Return a path without the differences that people do not see."""
    folded = unicodedata.normalize("NFC", path).casefold()
    return re.sub(r"\.(jp|ti)[ef]([gf])$", r".\1\2", folded)  # .jpeg and .tiff


@dataclass
class _Index:
    """The files below a folder by the ends of their paths."""

    root: str
    _ends: dict[int, dict[str, list[str]]] = field(default_factory=dict)

    @functools.cached_property
    def _files(self) -> list[tuple[str, list[str]]]:
        """Paths of all files that are not hidden, below the root, and their folded parts."""
        files = []
        # The whole machine is not searched.
        for folder, folders, names in os.walk(self.root) if self.root else ():
            folders[:] = sorted(name for name in folders if not is_hidden(name))
            inside = folder[len(self.root) + 1 :]
            paths = (
                f"{inside}/{name}".lstrip("/") for name in sorted(names) if not is_hidden(name)
            )
            files += [(path, _folded(path).split("/")) for path in paths]
        return files

    def files(self, end: Sequence[str], whole: bool = False) -> list[str]:
        """Return the files whose paths end with these parts, or are these where `whole` is set."""
        length = 0 if whole else len(end)
        if length not in self._ends:
            self._ends[length] = collections.defaultdict(list)
            for path, parts in self._files:
                if length <= len(parts):
                    self._ends[length]["/".join(parts[-length:])].append(path)
        key = _folded("/".join(end))
        keys = (key, *(f"{key}.{suffix}" for suffix in _SUFFIXES))
        return next((self._ends[length][one] for one in keys if one in self._ends[length]), [])
