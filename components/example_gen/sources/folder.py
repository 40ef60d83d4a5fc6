"""A folder tree as a source: one folder for each class, or train/, validation/, test/ with those.

Every file below a class folder is an item, whatever its name; files that are not images are
rejected later. Hidden files, cycles, unreadable folders and special files become notes.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from imgpipe.components.example_gen.sources.base import (
    Item,
    Kind,
    Note,
    Scan,
    Source,
    SourceOptions,
)
from imgpipe.components.example_gen.sources.local_files import BYTE_LIMIT, check_inside
from imgpipe.components.example_gen.sources.tree import (
    EXPECTED_TREE,
    is_hidden,
    is_split,
    lay_out,
)
from imgpipe.models.errors import ConfigError
from imgpipe.models.files import regular_files

_LISTS = (".csv", ".tsv", ".jsonl", ".ndjson")  # suffixes of files that may list the classes
_Identity = tuple[int, int]  # (device, inode)
_NO_FOLDER: _Identity = (-1, -1)  # identity of anything but a folder


@dataclass(frozen=True, slots=True)
class _Entry:
    """A directory entry and its kind."""

    path: str  # relative to the root, with forward slashes; "" for the root
    symlink: bool
    kind: str  # "folder", "file", "special", "outside" (a link to a folder outside of the root)
    identity: _Identity  # identity of the folder, after following links


@dataclass
class _Walk:
    """Collects the files, folders and notes of a tree."""

    root: str
    follow_links: bool
    notes: list[Note] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)

    def note(self, kind: str, path: str, detail: str = "") -> None:
        self.notes.append(Note(kind, path, detail))

    def entries(self, folder: str) -> Iterator[_Entry]:
        """Visible entries in sorted order; hidden and unreadable ones are noted."""
        try:
            found = sorted(entry.name for entry in os.scandir(f"{self.root}/{folder}"))
        except OSError as error:
            self.note("unreadable_folder", folder or ".", error.strerror or str(error))
            return
        for name in found:
            path = f"{folder}/{name}" if folder else name
            if is_hidden(name):
                self.note("hidden", path)
            else:
                yield self._entry(path)

    def _entry(self, path: str) -> _Entry:
        """Determine the kind of an entry; a dead link counts as a file."""
        file, symlink = f"{self.root}/{path}", False
        try:
            status = os.lstat(file)
            if symlink := stat.S_ISLNK(status.st_mode):
                status = Path(file).stat()
        except OSError as error:
            # As an item, a dead link is rejected by name instead of being left out.
            self.note("unreadable_file", path, error.strerror or str(error))
            return _Entry(path, symlink, "file", _NO_FOLDER)
        identity = _NO_FOLDER
        if stat.S_ISDIR(status.st_mode):
            kind, identity = "folder", (status.st_dev, status.st_ino)
        elif stat.S_ISREG(status.st_mode):
            kind = "file"
        else:
            kind = "special"
            self.note("special_file", path, "a pipe, socket or device is not read")
        if symlink:
            self.note("symlink", path, os.path.realpath(file))
        if symlink and kind == "folder" and not self.follow_links:
            try:
                check_inside(Path(file), Path(self.root))
            except OSError as error:
                self.note("outside_link", path, error.strerror or str(error))
                kind = "outside"
        return _Entry(path, symlink, kind, identity)

    def collect(self) -> None:
        """Add all files and folders of the tree.

        Raises:
            ConfigError: A folder of a class or a split is a link to outside of the root.
        """
        status = os.stat(self.root)  # noqa: PTH116
        top = _Entry("", False, "folder", (status.st_dev, status.st_ino))
        above: frozenset[_Identity] = frozenset()  # identities of the folders already entered
        folders = [(top, above, False)]
        links: list[tuple[_Entry, frozenset[_Identity], bool]] = []
        through_links: set[tuple[str, _Identity]] = set()
        while folders or links:
            # Links wait, so that a folder in the tree is listed by its own name, not by a link's.
            parent, above, linked = (folders or links).pop()
            # Folders are compared by device and inode, because a link gives a folder another path.
            if parent.identity in above:
                self.note("cycle", parent.path, "leads back to a folder above it; not followed")
                continue
            above, linked = above | {parent.identity}, linked or parent.symlink
            # Folders that link to each other would have a path for each order of them.
            place = parent.path.partition("/")[0], parent.identity
            if linked and place in through_links:
                self.note("repeated_link", parent.path, "was reached by another link already")
                continue
            if linked:
                through_links.add(place)
            if parent.path:
                self.folders.append(parent.path)
            for entry in self.entries(parent.path):
                if entry.kind == "file":
                    self.items.append(Item(entry.path, symlink=linked or entry.symlink))
                elif entry.kind == "folder":
                    (links if entry.symlink else folders).append((entry, above, linked))
                elif entry.kind == "outside" and (not parent.path or is_split(parent.path)):
                    raise ConfigError(
                        f"data source {self.root!r}: the folder {entry.path!r} is a link to "
                        f"{os.path.realpath(f'{self.root}/{entry.path}')!r}, outside of the data "
                        "source; use --set data.follow_links=true to read it, or copy it here"
                    )


@dataclass(frozen=True)
class FolderSource(Source):
    """A folder on a local or mounted file system."""

    directory: str
    options: SourceOptions = field(default_factory=SourceOptions)

    def listing(self) -> Scan:
        """Walk the tree; see `Source.listing`.

        Raises:
            ConfigError: The folder is not laid out as expected.
        """
        walk = _Walk(str(self._root()), self.options.follow_links)
        walk.collect()
        least = self.options.least_classes
        lists = [name for name in (item.path for item in walk.items) if name.endswith(_LISTS)]
        try:
            # An evaluation may have one class, whose images are in folders of their own.
            return lay_out(self.directory, walk.items, walk.folders, walk.notes, least, least > 1)
        except ConfigError as error:
            if len(lists) != 1 or "/" in lists[0]:
                raise
            file = shlex.quote(f"{self._path()}/{lists[0]}")
            raise ConfigError(
                f"{error}. If {lists[0]} lists the classes of the files, pass it instead of the "
                f"folder: {file}, and name its columns by data.image_column and data.label_column, "
                "and the folder of the files by data.root"
            ) from None

    def read(self, item: Item) -> bytes:
        """Read one file; see `Source.read`."""
        return regular_files.read_bytes(self._file(item), BYTE_LIMIT)

    def digest(self, item: Item) -> str:
        """Hash one file; see `Source.digest`."""
        return regular_files.sha256(self._file(item), BYTE_LIMIT)

    def _path(self) -> Path:
        return Path(self.directory).expanduser().absolute()

    def _file(self, item: Item) -> Path:
        """Path of an item; OSError when a link leads out of the root."""
        root = self._path()
        if not self.options.follow_links:
            check_inside(root / item.path, root)
        return root / item.path

    def _root(self) -> Path:
        root = self._path()
        if root.is_file():
            raise ConfigError(f"data source {self.directory!r} is a file; {EXPECTED_TREE}")
        if not root.is_dir():
            raise ConfigError(f"data source {self.directory!r} does not exist; {EXPECTED_TREE}")
        if not os.access(root, os.R_OK | os.X_OK):
            raise ConfigError(
                f"data source {self.directory!r} cannot be read by this user; {EXPECTED_TREE}"
            )
        return root


KINDS = (Kind("folder", FolderSource),)
