"""Walks a folder, and says which of its files are passed over, images, or others."""

from __future__ import annotations

import collections
import fnmatch
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

from imgpipe.components.common.image_file import file_names
from imgpipe.components.example_gen.notes import Notes
from imgpipe.components.example_gen.sources.images import check_inside


@dataclass(frozen=True)
class _Folder:
    """A folder that is still to be entered."""

    path: str  # relative to the root, with forward slashes; "" for the root
    above: frozenset[str] = frozenset()  # the folders above it, without links
    linked: bool = False  # whether a link led to it


@dataclass
class Walk:
    """Collects the files and folders of a tree, and notes the folders that are not entered.

    Attributes:
        root: The folder.
        follow_links: Whether links to folders outside of it are followed.
        notes: Gets what is not entered.
        files: Paths of the files, also of those that are hidden.
        folders: Paths of the folders, but for those that are hidden.
    """

    root: str
    follow_links: bool
    notes: Notes
    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    _waiting: list[_Folder] = field(default_factory=lambda: [_Folder("")])
    _linked: set[tuple[str, str]] = field(default_factory=set)

    def empty(self) -> list[str]:
        """Return the folders below which there is no file at all."""
        filled = {above for path in self.files for above in above_of(path)}
        return [folder for folder in self.folders if folder not in filled]

    def collect(self) -> None:
        """Add all files, and all folders that are not hidden."""
        while self._waiting:
            folder = self._waiting.pop()
            real = os.path.realpath(f"{self.root}/{folder.path}")
            # Folders that link to each other would have a path for each order of them.
            place = folder.path.partition("/")[0], real
            if real in folder.above or (folder.linked and place in self._linked):
                self.notes.add("repeated_link", folder.path)
                continue
            self._linked |= {place} if folder.linked else set()
            self.folders += filter(None, [folder.path])
            self._enter(folder, real)

    def _enter(self, folder: _Folder, real: str) -> None:
        """Add what is in a folder. What is no folder, such as a pipe, is rejected when it is read.

        A link to nowhere is, too.
        """
        try:
            entries = sorted(os.scandir(f"{self.root}/{folder.path}"), key=lambda entry: entry.name)
        except OSError as error:
            why = error.strerror or str(error)
            self.notes.add("unreadable_folder", folder.path or ".", why)
            return
        for entry in entries:
            path = f"{folder.path}/{entry.name}".lstrip("/")
            if not _is_folder(entry) or file_names.is_hidden(entry.name):
                self.files.append(path)
            elif not entry.is_symlink() or self._is_inside(entry.path, path):
                linked = folder.linked or entry.is_symlink()
                self._waiting.append(_Folder(path, folder.above | {real}, linked))

    def _is_inside(self, file: str, path: str) -> bool:
        """Return whether a link to a folder is followed; it is noted if not."""
        if self.follow_links:
            return True
        try:
            check_inside(Path(file), Path(self.root))
        except OSError as error:
            self.notes.add("outside_link", path, error.strerror or str(error))
            return False
        return True


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISDIR(entry.stat().st_mode)
    except OSError:  # a link to nowhere, or a loop of links
        return False


def above_of(path: str) -> list[str]:
    """Return the paths of the folders above a file, the outermost first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def not_passed_over(paths: Iterable[str], skip: Sequence[str], notes: Notes) -> list[str]:
    """Return the paths that are neither hidden nor skipped, and note the others.

    Args:
        paths: Paths of files.
        skip: Names, paths or patterns of what is skipped, as `data.skip`.
        notes: Gets what is passed over.
    """
    folders: dict[str, tuple[str, str] | None] = {}  # why folders are passed over, by their paths

    def reason_of(path: str) -> tuple[str, str] | None:
        """Return why this file or folder is passed over, and what it names."""
        name = path.rpartition("/")[2]
        if file_names.is_hidden(name):
            if file_names.is_of_system(name):
                return "hidden", path
            return "may_hold_images" if file_names.may_hold_images(name) else "hidden_file", path
        entry = next((pattern for pattern in skip if _is_named(pattern, path, name)), None)
        return ("skipped", entry) if entry else None

    def reason_above(folder: str) -> tuple[str, str] | None:
        """Return why the outermost of a folder and those above it is passed over."""
        if folder not in folders:
            above = filter(None, map(reason_of, above_of(f"{folder}/")))
            folders[folder] = next(above, None)
        return folders[folder]

    kept = []
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    for path in paths:
        why = reason_above(path.rpartition("/")[0]) or reason_of(path)
        if why is None:
            kept.append(path)
        else:
            counts[why] += 1
    for (reason, what), count in counts.items():
        notes.add(reason, what, count=count)
    return kept


def _is_named(pattern: str, path: str, name: str) -> bool:
    """Whether an entry of `data.skip` names a file or folder."""
    pattern = pattern.rstrip("/")
    if "/" in pattern:
        return path == pattern.strip("/") or fnmatch.fnmatchcase(path, pattern.strip("/"))
    return name.lower() == pattern.lower() or fnmatch.fnmatchcase(name.lower(), pattern.lower())


def divided(
    paths: Iterable[str], begins_as_image: Callable[[str], bool]
) -> tuple[list[str], list[str]]:
    """Divide files into images and others.

    A file with the ending of an image is one. A file that belongs to such an image beside it by its
    name is none; what the others are, their first bytes say.
    """
    by_folder: dict[str, list[str]] = collections.defaultdict(list)
    for path in paths:
        by_folder[path.rpartition("/")[0]].append(path)
    images: list[str] = []
    others: list[str] = []
    for files in by_folder.values():
        called = set(filter(file_names.is_image, files))
        rest = [path for path in files if path not in called]
        beside = file_names.companions(filter(file_names.has_ending, rest), called)
        for path in rest:
            stands_for_one = path in beside or file_names.may_hold_images(path)
            if stands_for_one or not begins_as_image(path):
                others.append(path)
            else:
                called.add(path)
        images += called
    return images, others


def visible_below(folder: Path) -> Iterator[str]:
    """Yield the path of each file below a folder, relative to it, that is not hidden."""
    for above, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not file_names.is_hidden(name))
        for name in sorted(names):
            if not file_names.is_hidden(name):
                yield Path(above, name).relative_to(folder).as_posix()


def note_beside(notes: Notes, folder: Path, files: Collection[Path]) -> None:
    """Note the files that lie in a folder beside those that are read."""
    for other in sorted(folder.iterdir()):
        if other.is_file() and other not in files:
            notes.add("beside_images", other.name)


def safe_path(name: str) -> tuple[str, str]:
    """Return the path below the root that a name means, or "" and why the name is unsafe."""
    # Zip demands forward slashes (APPNOTE 4.4.17.1), which not every archiver writes.
    path = PureWindowsPath(name)
    if path.drive or path.root:
        return "", "an absolute path"
    if ".." in path.parts:
        return "", "leads out of the source"
    if "\0" in name:
        return "", "a NUL in the name"
    return "/".join(path.parts), ""
