"""Finds the files that a list names: where it says, or by the ends of their paths.

A list may leave out the suffix, write it, an accent or a space in another way, come from another
machine with absolute paths, or lie beside the folder of its files. Folders are walked once, and
only when a file is not where the list says.
"""

from __future__ import annotations

import collections
import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from imgpipe.components.common.image_file.file_names import is_hidden
from imgpipe.components.example_gen.notes import noted
from imgpipe.models.finding import Finding

_RARE = 10  # one file found among more names than these shows no folder


def _as_written(name: str) -> str:
    """Return the name of a file without the differences that people do not see."""
    # Names of screenshots have a narrow no-break space, which spreadsheets make a space.
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


@dataclass
class FoundFiles:
    """Where the files of a list are, as paths below the root by listed name."""

    paths: dict[str, str] = field(default_factory=dict)  # of those that were found
    places: dict[str, str] = field(default_factory=dict)  # "" for a name that leads out of the root
    copies: list[str] = field(default_factory=list)  # several files that one name may mean
    notes: list[Finding] = field(default_factory=list)  # other folders from which files are read


def find_files(listed: Iterable[str], root: str) -> FoundFiles:
    """Find the files of different names in a list, which are relative to the absolute `root`.

    Files at other places than the list says are looked for together: the same number of folders is
    left out at the front of all names, and nothing is taken from elsewhere when some are in place.
    """
    found_files = FoundFiles()
    root = os.path.normpath(root).rstrip("/")
    missing: dict[str, list[str]] = {}
    for name in listed:
        parts = _parts(name)
        inside = _inside(name, parts, root)
        found_files.places[name] = inside
        if inside and os.path.lexists(f"{root}/{inside}"):
            found_files.paths[name] = inside
        else:
            missing[name] = inside.split("/") if inside else parts
    files = _files_by_name(root) if missing else {}
    for name, parts in missing.items():
        alike = [path for path in _named(parts, files) if path.count("/") == len(parts) - 1]
        if found_files.places[name] and len(alike) == 1:
            found_files.paths[name] = alike[0]
    if missing and not found_files.paths:
        _find_elsewhere(missing, files, found_files)
    return found_files


def _find_elsewhere(
    names: Mapping[str, list[str]], files: Mapping[str, list[str]], found_files: FoundFiles
) -> None:
    """Find files in other folders, by the longest ends of their names that many of them have."""
    for dropped in range(max(map(len, names.values()))):
        ends = {name: parts[dropped:] or parts[-1:] for name, parts in names.items()}
        matches = {name: _named(end, files) for name, end in ends.items()}
        # A name means one file alone, which no other name means.
        owners = collections.Counter(path for paths in matches.values() for path in paths)
        single = {name: paths[0] for name, paths in matches.items() if len(paths) == 1}
        certain = {name: path for name, path in single.items() if owners[path] == 1}
        several = (paths for paths in matches.values() if len(paths) > 1)
        found_files.copies = found_files.copies or next(several, [])
        if _RARE * len(certain) >= len(names):  # a few names are met anywhere by chance
            break
    else:
        return
    found_files.paths |= certain
    by_folder: dict[str, list[str]] = collections.defaultdict(list)
    for name, path in certain.items():
        by_folder["/".join(path.split("/")[: -len(ends[name])]) or "."].append(name)
    for folder, listed in by_folder.items():
        example = f"{listed[0]!r} is {certain[listed[0]]!r}"
        found_files.notes.append(noted("found_elsewhere", folder, example, len(listed)))


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


def _files_by_name(root: str) -> dict[str, list[str]]:
    """Return all files that are not hidden by their names, with and without the suffix."""
    by_name: dict[str, list[str]] = collections.defaultdict(list)
    for folder, folders, names in os.walk(root) if root else ():  # not through the whole machine
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        inside = folder[len(root) + 1 :]
        for file in sorted(name for name in names if not is_hidden(name)):
            name = _as_written(file)
            for key in {name, posixpath.splitext(name)[0]}:
                by_name[key].append(f"{inside}/{file}".lstrip("/"))
    return by_name


def _named(end: Sequence[str], files: Mapping[str, list[str]]) -> list[str]:
    """Return the files whose paths end with these folders and this name, of any suffix."""
    key = _as_written(end[-1])
    folders = _as_written("/".join(["", *end[:-1], ""]))
    for name in (key, posixpath.splitext(key)[0]):
        paths = files.get(name, [])
        alike = [p for p in paths if _as_written(f"/{posixpath.dirname(p)}/").endswith(folders)]
        if len({posixpath.splitext(path)[0] for path in alike}) == 1:
            return [min(alike)]  # a photograph has its mask as a PNG file beside it
        if alike:
            return alike
    return []
