"""A folder tree as a source: one folder for each class, or train/, validation/, test/ with those.

Every file below a class folder is an item, whatever its name; files that are not images are
rejected later. Hidden files, cycles, unreadable folders and special files become notes.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from imgpipe.components.example_gen.sources import file_list, local_files
from imgpipe.components.example_gen.sources.base import Item, Kind, Note, Scan, SourceOptions
from imgpipe.components.example_gen.sources.hashing import HashedSource
from imgpipe.components.example_gen.sources.items import ItemSorter
from imgpipe.components.example_gen.sources.layout import (
    EXPECTED_TREE,
    RECORD_FILE,
    given_splits,
    in_order,
    is_hidden,
    some,
)
from imgpipe.models.errors import ConfigError

_LISTS = (".csv", ".tsv", ".jsonl", ".ndjson")  # suffixes of files that may list the classes
_Identity = tuple[int, int]  # (device, inode)
_NO_FOLDER: _Identity = (-1, -1)  # identity of anything but a folder


@dataclass(frozen=True, slots=True)
class _Entry:
    """A directory entry and its kind."""

    name: str
    path: str
    symlink: bool
    kind: str  # "folder", "file", "special", "outside" (a link to a folder outside of the root)
    identity: _Identity  # identity of the folder, after following links


@dataclass
class _Walk:
    """Collects notes and items while the tree is walked.

    Paths are strings, because a `Path` for each of a million files would take much more memory.
    """

    root: str
    follow_links: bool = False
    above: frozenset[_Identity] = frozenset()  # identities of the folders already entered
    notes: list[Note] = field(default_factory=list)
    items: ItemSorter = field(default_factory=ItemSorter)
    records: int = 0  # number of items whose name is that of a record file

    def relative(self, path: str) -> str:
        return path[len(self.root) :].lstrip(os.sep) or "."

    def note(self, kind: str, path: str, detail: str = "") -> None:
        self.notes.append(Note(kind, self.relative(path), detail))

    def entries(self, folder: str) -> Iterator[_Entry]:
        """Visible entries in sorted order; hidden and unreadable ones are noted.

        Only the names are held, because a folder may have a million files.
        """
        try:
            found = sorted(entry.name for entry in os.scandir(folder))
        except OSError as error:
            self.note("unreadable_folder", folder, error.strerror or str(error))
            return
        for name in found:
            path = f"{folder.rstrip(os.sep)}{os.sep}{name}"
            if is_hidden(name):
                self.note("hidden", path)
            else:
                yield self._entry(name, path)

    def _entry(self, name: str, path: str) -> _Entry:
        """Determine the kind of an entry; a dead link counts as a file."""
        symlink = False
        try:
            status = os.lstat(path)
            if symlink := stat.S_ISLNK(status.st_mode):
                status = Path(path).stat()
        except OSError as error:
            # As an item, a dead link is rejected by name instead of being left out.
            self.note("unreadable_file", path, error.strerror or str(error))
            return _Entry(name, path, symlink, "file", _NO_FOLDER)
        identity = _NO_FOLDER
        if stat.S_ISDIR(status.st_mode):
            kind, identity = "folder", (status.st_dev, status.st_ino)
        elif stat.S_ISREG(status.st_mode):
            kind = "file"
        else:
            kind = "special"
            self.note("special_file", path, "a pipe, socket or device is not read")
        if symlink:
            self.note("symlink", path, os.path.realpath(path))
        if symlink and kind == "folder" and not self.follow_links:
            try:
                local_files.check_inside(Path(path), Path(self.root))
            except OSError as error:
                self.note("outside_link", path, error.strerror or str(error))
                kind = "outside"
        return _Entry(name, path, symlink, kind, identity)

    def add(self, entry: _Entry, label: str | None, split: str | None, linked: bool) -> None:
        self.items.add(Item(self.relative(entry.path), label, split, linked or entry.symlink))
        # An image may be called x.record, too.
        self.records += bool(RECORD_FILE.search(entry.name)) and "tfrec" in entry.name.lower()

    def collect(self, folder: _Entry, label: str, split: str | None) -> int:
        """Add all files below `folder` as items of one class, and return their number."""
        before = len(self.items)
        folders = [(folder, self.above, False)]
        links: list[tuple[_Entry, frozenset[_Identity], bool]] = []
        through_links: set[_Identity] = set()
        while folders or links:
            # Links wait, so that a folder in the tree is listed by its own name, not by a link's.
            parent, above, linked = (folders or links).pop()
            # Folders are compared by device and inode, because a link gives a folder another path.
            if parent.identity in above:
                self.note("cycle", parent.path, "leads back to a folder above it; not followed")
                continue
            above, linked = above | {parent.identity}, linked or parent.symlink
            # Folders that link to each other would have a path for each order of them.
            if linked and parent.identity in through_links:
                self.note("repeated_link", parent.path, "was reached by another link already")
                continue
            if linked:
                through_links.add(parent.identity)
            for entry in self.entries(parent.path):
                if entry.kind == "file":
                    self.add(entry, label, split, linked)
                elif entry.kind == "folder":
                    (links if entry.symlink else folders).append((entry, above, linked))
        return len(self.items) - before


@dataclass(frozen=True)
class FolderSource(HashedSource):
    """A folder on a local or mounted file system."""

    directory: str
    options: SourceOptions = field(default_factory=SourceOptions)

    def listing(self) -> Scan:
        """Walk the tree; see `Source.listing`.

        Raises:
            ConfigError: The folder is not laid out as expected.
        """
        root = self._root()
        status = root.stat()
        walk = _Walk(
            str(root), self.options.follow_links, frozenset({(status.st_dev, status.st_ino)})
        )
        top = self._inside(walk.entries(str(root)))
        folders = [entry for entry in top if entry.kind == "folder"]
        files = [entry for entry in top if entry.kind == "file"]
        if not folders:
            raise self._no_folders(files, walk.notes)
        given = given_splits(self.directory, [folder.name for folder in folders])
        classes: set[str] = set()
        if given:
            for entry in folders:
                classes |= self._collect_split(walk, entry, given[entry.name])
        else:
            classes = self._collect_classes(walk, folders, None)
        for entry in files:
            walk.add(entry, None, None, linked=False)
        if 2 * walk.records > len(walk.items):
            raise ConfigError(
                f"data source {self.directory!r}: {walk.records:,} of {len(walk.items):,} files in "
                "its folders are TFRecord files, which are not read as images. Give "
                f"{shlex.quote(f'tfrecord:{self.directory}')} to read their records"
            )
        self._check_classes(folders, classes, walk, bool(given), files)
        return Scan(
            source=self.directory,
            items=walk.items.sorted(),
            vocabulary=tuple(sorted(classes)),
            given_splits=in_order(set(given.values())),
            notes=tuple(walk.notes),
        )

    def read(self, item: Item) -> bytes:
        """Read one file; see `Source.read`."""
        return local_files.read_bytes(self._file(item))

    def digest(self, item: Item) -> str:
        """Hash one file; see `HashedSource.digest`."""
        return local_files.sha256(self._file(item))

    def _path(self) -> Path:
        return Path(self.directory).expanduser().absolute()

    def _file(self, item: Item) -> Path:
        """Path of an item; OSError when a link leads out of the root."""
        root = self._path()
        if not self.options.follow_links:
            local_files.check_inside(root / item.path, root)
        return root / item.path

    def _root(self) -> Path:
        root = self._path()
        if "://" in self.directory:
            raise ConfigError(
                f"data source {self.directory!r}: only local and mounted folders are read; "
                "mount the bucket or copy the images"
            )
        if root.is_file():
            raise ConfigError(f"data source {self.directory!r} is a file; {EXPECTED_TREE}")
        if not root.is_dir():
            raise ConfigError(f"data source {self.directory!r} does not exist; {EXPECTED_TREE}")
        if not os.access(root, os.R_OK | os.X_OK):
            raise ConfigError(
                f"data source {self.directory!r} cannot be read by this user; {EXPECTED_TREE}"
            )
        return root

    def _inside(self, entries: Iterable[_Entry]) -> list[_Entry]:
        """Return the entries; ConfigError when a class or split folder is outside of the root."""
        found = list(entries)
        for entry in found:
            if entry.kind == "outside":
                raise ConfigError(
                    f"data source {self.directory!r}: the folder {entry.name!r} is a link to "
                    f"{os.path.realpath(entry.path)!r}, outside of the data source; use "
                    "--set data.follow_links=true to read it, or copy it here"
                )
        return found

    def _collect_split(self, walk: _Walk, folder: _Entry, split: str) -> set[str]:
        """Collect the items of one split folder, and return its class names."""
        entries = self._inside(walk.entries(folder.path))
        for entry in entries:
            if entry.kind == "file":
                walk.add(entry, None, split, linked=folder.symlink)
        return self._collect_classes(walk, [e for e in entries if e.kind == "folder"], split)

    def _collect_classes(self, walk: _Walk, folders: list[_Entry], split: str | None) -> set[str]:
        """Collect the items of class folders and return the class names, also of empty folders."""
        for entry in folders:
            if walk.collect(entry, entry.name, split) == 0:
                walk.note("empty_class", entry.path, "no file in it")
        return {entry.name for entry in folders}

    def _no_folders(self, files: list[_Entry], notes: list[Note]) -> ConfigError:
        if files:
            found = f"{len(files)} files directly in it ({some([f.name for f in files])})"
            found += " and no folder, so no file has a class"
        else:
            hidden = sum(note.kind == "hidden" for note in notes)
            found = f"nothing but {hidden} hidden entries" if hidden else "nothing"
        expected = EXPECTED_TREE
        lists = [file.path for file in files if file_list.takes(file.path, self.options)]
        if len(lists) == 1:
            expected += (
                f"; to use the list in it, pass that instead of the folder: {shlex.quote(lists[0])}"
            )
        return ConfigError(f"data source {self.directory!r}: found {found}; {expected}")

    def _check_classes(
        self, folders: list[_Entry], classes: set[str], walk: _Walk, split: bool, rest: list[_Entry]
    ) -> None:
        """ConfigError unless there are enough classes and at least one file with a class."""
        if len(classes) < 2:
            only = folders[0]
            inner = [e.name for e in _Walk(walk.root).entries(only.path) if e.kind == "folder"]
            # An evaluation may have one class, whose images are in folders of their own.
            several = self.options.least_classes > 1
            if several and not split and len(folders) == 1 and len(inner) >= 2:
                raise ConfigError(
                    f"data source {self.directory!r}: found a single folder {only.name!r} that "
                    f"holds {len(inner)} folders ({some(inner)}): one level too deep; give "
                    f"{Path(self.directory) / only.name!s} instead"
                )
            if len(classes) >= self.options.least_classes and walk.items.labelled:
                return
            lists = [entry.name for entry in rest if Path(entry.name).suffix.lower() in _LISTS]
            if split and not classes and lists:
                raise ConfigError(
                    f"data source {self.directory!r}: found {len(walk.items) - len(rest):,} files "
                    f"directly in {some([f'{f.name}/' for f in folders])}. These files are not in "
                    f"class folders. If {some(lists)} lists their classes, pass it instead of the "
                    f"folder: {Path(self.directory) / lists[0]}, and name its columns by "
                    "data.path_column and data.label_column and the folder of the files by "
                    f"data.root; otherwise {EXPECTED_TREE}"
                )
            found = f"one class only ({some(sorted(classes))})" if classes else "no class folder"
            raise ConfigError(
                f"data source {self.directory!r}: found {found}, at least two are needed; "
                f"{EXPECTED_TREE}"
            )
        if not walk.items.labelled:
            raise ConfigError(
                f"data source {self.directory!r}: found {len(classes)} class folders "
                f"({some(sorted(classes))}) without a single file; put the images into them"
            )


KINDS = (Kind("folder", FolderSource),)
