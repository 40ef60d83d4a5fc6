"""Finds the files that a list names, as the file system writes their paths below the root.

A list may leave out the suffix, or write it, an accent or a space in another way. Folders are
walked once, and only when a file is not where the list says.
"""

from __future__ import annotations

import collections
import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable

from imgpipe.components.common.image_file.file_names import is_hidden


def _as_written(path: str) -> str:
    """Return a path without the differences that people do not see."""
    # Names of screenshots have a narrow no-break space, which spreadsheets make a space.
    return " ".join(unicodedata.normalize("NFC", path).casefold().split())


def find_files(listed: Iterable[str], root: str) -> dict[str, str]:
    """Return the path below the absolute `root` of each listed name, "" for one that leads out."""
    root = os.path.normpath(root).rstrip("/")
    paths = {name: _inside(name, root) for name in listed}
    missing = [name for name, path in paths.items() if path and not _exists(root, path)]
    files = _files_below(root) if missing else {}
    for name in missing:
        key = _as_written(paths[name])
        alike = files.get(key) or files.get(posixpath.splitext(key)[0], [])
        if len({posixpath.splitext(path)[0] for path in alike}) == 1:
            paths[name] = min(alike)  # a photograph has its mask as a PNG file beside it
    return paths


def folders_with(names: Iterable[str], root: str) -> list[str]:
    """Return the folders below the absolute `root` at which all these names begin."""
    files = _files_below(os.path.normpath(root).rstrip("/"))
    folders: list[set[str]] = []
    for name in names:
        end = f"/{_as_written(name)}"
        paths = [path for key, alike in files.items() if key.endswith(end) for path in alike]
        folders.append({path.rsplit("/", end.count("/"))[0] for path in paths})
    return sorted(set.intersection(*folders))


def _exists(root: str, path: str) -> bool:
    return os.path.lexists(f"{root}/{path}")


def _inside(name: str, root: str) -> str:
    """Return the path below the root that a name means, "" when it leads out of it."""
    if "\0" in name or "://" in name or re.match(r"[A-Za-z]:[\\/]|\\\\", name):
        return ""
    # A list from Windows has backslashes alone; beside slashes they are a part of the name.
    path = name if "/" in name else name.replace("\\", "/")
    path = os.path.normpath(path if path.startswith("/") else f"{root}/{path}")
    return path[len(root) + 1 :] if path.startswith(f"{root}/") else ""


def _files_below(root: str) -> dict[str, list[str]]:
    """Return all files that are not hidden by their paths, with and without the suffix."""
    by_path: dict[str, list[str]] = collections.defaultdict(list)
    for folder, folders, names in os.walk(root) if root else ():  # not through the whole machine
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        inside = folder[len(root) + 1 :]
        for file in names:
            if not is_hidden(file):
                path = f"{inside}/{file}".lstrip("/")
                key = _as_written(path)
                for written in {key, posixpath.splitext(key)[0]}:
                    by_path[written].append(path)
    return by_path
