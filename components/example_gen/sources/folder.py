"""A folder tree as a source: one folder for each class, or train/, validation/, test/ with those.

Every file below a class folder is an item, whatever its name; files that are not images are
rejected later. Hidden files, cycles, unreadable folders and special files become notes.

A .zip, .tar or .tar.gz archive is unpacked once, and is a folder from then on. Members that lead
out of the archive, links and devices are left out, each with a note. An archive that is damaged, or
that expands more than images do, is refused as a whole.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imgpipe.components.common.image_file import file_names
from imgpipe.components.common.image_file.file_names import hidden_kind, is_hidden
from imgpipe.components.common.splits import split_of
from imgpipe.components.example_gen.notes import noted
from imgpipe.components.example_gen.sources import folder_tree, list_files, local_files
from imgpipe.components.example_gen.sources.base import (
    EXPECTED_TREE,
    Item,
    Scan,
    Source,
    SourceKind,
)
from imgpipe.components.example_gen.sources.local_files import (
    BYTE_LIMIT,
    check_inside,
    described,
    refuse_parts,
)
from imgpipe.components.example_gen.sources.refusal import lay_out
from imgpipe.models.errors import ConfigError, nearest
from imgpipe.models.files import regular_files
from imgpipe.models.finding import Finding
from imgpipe.models.settings.data import DataSettings

_AGAIN = (
    "If it is one of several parts, join them first. If the images are your own, download the "
    "archive again, or unpack it and name the folder."
)


@dataclass(frozen=True)
class _Folder:
    """A folder that is still to be entered."""

    path: str  # relative to the root, with forward slashes; "" for the root
    above: frozenset[str] = frozenset()  # the folders above it, without links
    linked: bool = False  # whether a link led to it


@dataclass
class Walk:
    """Collects the files, folders and notes of a tree."""

    root: str
    follow_links: bool
    notes: list[Finding] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    _waiting: list[_Folder] = field(default_factory=lambda: [_Folder("")])
    _linked: set[tuple[str, str]] = field(default_factory=set)

    def collect(self) -> None:
        """Add all files and folders of the tree.

        Raises ConfigError if a folder of a class or a split is a link to outside of the root.
        """
        while self._waiting:
            folder = self._waiting.pop()
            real = os.path.realpath(f"{self.root}/{folder.path}")
            # Folders that link to each other would have a path for each order of them.
            place = folder.path.partition("/")[0], real
            if real in folder.above or (folder.linked and place in self._linked):
                self._note("repeated_link", folder.path, "leads to a folder that is read already")
            else:
                self._linked |= {place} if folder.linked else set()
                self.folders += filter(None, [folder.path])
                self._enter(folder, real)

    def _enter(self, folder: _Folder, real: str) -> None:
        """Add what is in a folder; what is hidden, unreadable or no file is noted."""
        try:
            entries = sorted(os.scandir(f"{self.root}/{folder.path}"), key=lambda entry: entry.name)
        except OSError as error:
            self._note("unreadable_folder", folder.path or ".", error.strerror or str(error))
            return
        for entry in entries:
            path = f"{folder.path}/{entry.name}".lstrip("/")
            link = entry.is_symlink()
            if is_hidden(entry.name):
                self._note(hidden_kind(entry.name), path)
                continue
            try:
                mode = entry.stat().st_mode
            except OSError:  # as an item, a dead link is rejected by name instead of left out
                mode = stat.S_IFREG
            else:
                if link:
                    self._note("symlink", path, os.path.realpath(entry.path))
            if stat.S_ISREG(mode):
                self.items.append(Item(path))
            elif not stat.S_ISDIR(mode):
                self._note("special_file", path, "a pipe, socket or device is not read")
            elif not link or self._is_inside(folder, entry.path, path):
                self._waiting.append(_Folder(path, folder.above | {real}, folder.linked or link))

    def _is_inside(self, folder: _Folder, file: str, path: str) -> bool:
        """Return whether a link to a folder is followed; it is noted, or an error, if not."""
        if self.follow_links:
            return True
        try:
            check_inside(Path(file), Path(self.root))
        except OSError as error:
            self._note("outside_link", path, error.strerror or str(error))
            if not folder.path or split_of(folder.path):
                raise ConfigError(
                    f"data source {self.root!r}: the folder {path!r} is a link to "
                    f"{os.path.realpath(file)!r}, outside of the data source; use "
                    "--set data.follow_links=true to read it, or copy it here"
                ) from None
            return False
        return True

    def _note(self, kind: str, path: str, detail: str = "") -> None:
        self.notes.append(noted(kind, path, detail))


class FolderSource(Source):
    """A folder on a local or mounted file system."""

    def unchecked(self) -> Scan:
        """Walk the tree; see `Source.unchecked`."""
        self.check()
        root, notes = self.opened()
        tree = Walk(str(root), self.options.follow_links)
        tree.collect()
        # An evaluation may have one class, whose images are in folders of their own. An archive
        # has a folder around all others.
        descend = self.least_classes > 1 or root != self.path
        every_note = [*notes, *tree.notes]
        return lay_out(self, tree.items, tree.folders, every_note, descend, root)

    def opened(self) -> tuple[Path, Sequence[Finding]]:
        """Return the folder with the files, and notes of what is not in it."""
        return self.path, ()

    def read(self, item: Item) -> bytes:
        """Read one file; see `Source.read`."""
        return regular_files.read_bytes(self._file(item), BYTE_LIMIT)

    def digest(self, item: Item) -> str:
        """Hash one file; see `Source.digest`."""
        return regular_files.sha256(self._file(item), BYTE_LIMIT)

    def _file(self, item: Item) -> Path:
        """Path of an item; OSError when a link leads out of the folder."""
        root, _ = self.opened()
        if not self.options.follow_links:
            check_inside(root / item.path, root)
        return root / item.path

    def check(self) -> None:
        """Raise a ConfigError if it is no folder that can be read."""
        root = self.path
        if root.is_file():
            refuse_parts(self.locator)
            is_list = list_files.names_images(root)
            command = shlex.quote(f"{list_files.KIND}:{self.locator}")
            way = f". It names images; to read it as a list: imgpipe check {command}"
            raise ConfigError(
                f"data source {self.locator!r} is a file that is not read ({described(root)}); "
                f"{EXPECTED_TREE}, or an archive of it (.zip, .tar, .tar.gz), or a list (.csv, "
                f".tsv, .txt, .jsonl; save spreadsheets as CSV){way if is_list else ''}"
            )
        if not root.is_dir():
            beside = root.parent.iterdir() if root.parent.is_dir() else ()
            near = nearest(root.name, [path.name for path in beside if path.is_dir()])
            raise ConfigError(f"data source {self.locator!r} does not exist{near}; {EXPECTED_TREE}")
        if not os.access(root, os.R_OK | os.X_OK):
            raise ConfigError(
                f"data source {self.locator!r} cannot be read by this user; {EXPECTED_TREE}"
            )


def takes(locator: str, options: DataSettings) -> bool:
    """Whether a plain path names an archive: by its ending, or without a known one by its bytes."""
    path = Path(locator).expanduser()
    if file_names.kind_by_ending(path.name) is not None:
        return locator.lower().endswith(local_files.READ) and not path.is_dir()
    return path.is_file() and folder_tree.kind_below(path.parent, path.name) == "archive"


class ArchiveSource(FolderSource):
    """One archive on a local or mounted file system."""

    def check(self) -> None:
        """Raise a ConfigError if it is no whole archive with files."""
        if not self.path.is_file():
            what = "is a folder" if self.path.is_dir() else "does not exist"
            raise ConfigError(f"data source {self.locator!r} {what}; {local_files.EXPECTED}")
        local_files.refuse_parts(self.locator)
        try:
            files, notes = self.opened()
        except OSError as error:
            why = f"data source {self.locator!r} cannot be read: {error.strerror or error}"
            raise ConfigError(f"{why}. {_AGAIN}") from None
        if notes and not any(path.is_file() for path in files.rglob("*")):
            left_out = notes[0]["examples"][0]
            raise ConfigError(
                f"data source {self.locator!r}: found no file in it, but {left_out['path']!r} "
                f"({left_out['detail']}); {local_files.EXPECTED}"
            )

    def opened(self) -> tuple[Path, Sequence[Finding]]:
        """Unpack the archive, unless it is in the cache; see `FolderSource.opened`.

        Raises ResourceError if there is no space to unpack it.
        """
        return _unpacked(str(self.path), local_files.cache_folder(self.store))


@local_files.cached_until_changed(4)
def _unpacked(path: str, cache: Path) -> tuple[Path, list[Finding]]:
    """Return the folder of an archive, and notes of what was left out."""
    file = Path(path)
    return local_files.kept(file, cache, lambda folder: local_files.unpack_archive(file, folder))


KINDS = (
    SourceKind("folder", FolderSource),
    SourceKind("archive", ArchiveSource, takes, order=10),
)
