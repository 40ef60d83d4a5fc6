"""A folder tree as a source: one folder a class, or train/ validation/ test/ of those.

Every file below a class folder is an item, whatever its name: what is no image is rejected by
name later. Hidden files, cycles, unreadable folders and special files become notes.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from components.sources.base import Item, Note, Scan, fingerprint
from models import feature_names as names
from models import progress
from models.errors import ConfigError

#: Folder names at the root that are splits, not classes (any case).
SPLIT_FOLDERS = {
    "train": names.TRAIN,
    "validation": names.VALIDATION,
    "val": names.VALIDATION,
    "test": names.TEST,
}
_ARCHIVER_LEFTOVERS = {"__MACOSX"}  # beside the photographs in archives made on a Mac
_CHUNK = 1 << 20  # bytes read at once while hashing
_HASH_THREADS = 8  # reading waits for the disk, hashing releases the interpreter lock
_Identity = tuple[int, int]  # (device, inode)
_NOWHERE: _Identity = (-1, -1)  # of a dead link
_EXPECTED = (
    "expected a folder with one sub-folder a class (cats/, dogs/), or train/, validation/ and "
    "test/ folders of those"
)


@dataclass(frozen=True)
class _Entry:
    """A directory entry with everything that telling apart needs."""

    name: str
    path: Path
    symlink: bool
    kind: str  # "folder", "file", "special"
    identity: _Identity  # of what it leads to


@dataclass
class _Walk:
    """Collects notes and items while the tree is walked."""

    root: Path
    above: frozenset[_Identity] = frozenset()  # identities of the folders already entered
    notes: list[Note] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)

    def relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def note(self, kind: str, path: Path, detail: str = "") -> None:
        self.notes.append(Note(kind, self.relative(path), detail))

    def entries(self, folder: Path) -> list[_Entry]:
        """Visible entries in sorted order; hidden and unreadable ones are noted."""
        try:
            found = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self.note("unreadable_folder", folder, error.strerror or str(error))
            return []
        visible = []
        for entry in found:
            path = Path(entry.path)
            if entry.name.startswith(".") or entry.name in _ARCHIVER_LEFTOVERS:
                self.note("hidden", path)
                continue
            visible.append(self._entry(entry, path))
        return visible

    def _entry(self, entry: os.DirEntry[str], path: Path) -> _Entry:
        """Tell folder, file and special file apart; a dead link counts as a file."""
        symlink = entry.is_symlink()
        try:
            status = entry.stat()
        except OSError as error:
            self.note("unreadable_file", path, error.strerror or str(error))
            return _Entry(entry.name, path, symlink, "file", _NOWHERE)
        identity = (status.st_dev, status.st_ino)
        if stat.S_ISDIR(status.st_mode):
            kind = "folder"
        elif stat.S_ISREG(status.st_mode):
            kind = "file"
        else:
            kind = "special"
        if symlink:
            self.note("symlink", path, str(path.resolve()))
        if kind == "special":
            self.note("special_file", path, "a pipe, socket or device is not read")
        return _Entry(entry.name, path, symlink, kind, identity)

    def add(self, entry: _Entry, label: str | None, split: str | None, linked: bool) -> None:
        self.items.append(
            Item(self.relative(entry.path), label, split, symlink=linked or entry.symlink)
        )

    def collect(self, folder: _Entry, label: str, split: str | None) -> int:
        """All files below `folder` as items of one class; returns how many."""
        before = len(self.items)
        if folder.identity in self.above:
            self.note("cycle", folder.path, "leads back to a folder above it; not followed")
            return 0
        stack = [(folder.path, self.above | {folder.identity}, folder.symlink)]
        while stack:
            path, ancestors, linked = stack.pop()
            for entry in self.entries(path):
                if entry.kind == "file":
                    self.add(entry, label, split, linked)
                elif entry.kind == "folder" and entry.identity in ancestors:
                    self.note("cycle", entry.path, "leads back to a folder above it; not followed")
                elif entry.kind == "folder":
                    stack.append(
                        (entry.path, ancestors | {entry.identity}, linked or entry.symlink)
                    )
        return len(self.items) - before


@dataclass(frozen=True)
class FolderSource:
    """A folder on a local or mounted file system."""

    directory: str

    def listing(self) -> Scan:
        """Walk the tree; see `Source.listing`. ConfigError when it is not laid out as expected."""
        root = self._root()
        status = root.stat()
        walk = _Walk(root, frozenset({(status.st_dev, status.st_ino)}))
        top = walk.entries(root)
        folders = [entry for entry in top if entry.kind == "folder"]
        files = [entry for entry in top if entry.kind == "file"]
        if not folders:
            raise self._no_folders(root, files, walk.notes)
        given = self._given_splits(root, folders)
        classes: set[str] = set()
        if given:
            for entry in folders:
                classes |= self._collect_split(walk, entry, given[entry.name])
        else:
            classes = self._collect_classes(walk, folders, None)
        for entry in files:
            walk.add(entry, None, None, linked=False)
        self._check_classes(root, folders, classes, walk, bool(given))
        return Scan(
            source=self.directory,
            items=tuple(sorted(walk.items, key=lambda item: item.path)),
            vocabulary=tuple(sorted(classes)),
            given_splits=tuple(s for s in names.SPLITS if s in set(given.values())),
            notes=tuple(sorted(walk.notes, key=lambda note: (note.kind, note.path))),
        )

    def scan(self) -> Scan:
        """List and hash, contents in threads; see `Source.scan`."""
        listing = self.listing()
        unreadable: list[Note] = []
        hashed: list[Item] = []
        progress.total(len(listing.items), "files")
        with concurrent.futures.ThreadPoolExecutor(_HASH_THREADS) as pool:
            for item, outcome in zip(
                listing.items, pool.map(self._try_hash, listing.items), strict=True
            ):
                digest, error = outcome
                if error:
                    unreadable.append(Note("unreadable_file", item.path, error))
                hashed.append(dataclasses.replace(item, sha256=digest))
                progress.advance(1, "files")
        known = {(note.kind, note.path) for note in listing.notes}  # dead links
        notes = [*listing.notes, *(n for n in unreadable if (n.kind, n.path) not in known)]
        return dataclasses.replace(
            listing,
            items=tuple(hashed),
            notes=tuple(sorted(notes, key=lambda note: (note.kind, note.path))),
            fingerprint=fingerprint((item.path, item.sha256) for item in hashed),
        )

    def read(self, path: str) -> bytes:
        """The content of one file; see `Source.read`."""
        return (self._path() / path).read_bytes()

    def _path(self) -> Path:
        return Path(self.directory).expanduser().absolute()

    def _try_hash(self, item: Item) -> tuple[str, str]:
        """(hex SHA-256, "") or ("", why it cannot be read)."""
        digest = hashlib.sha256()
        try:
            with (self._path() / item.path).open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
        except OSError as error:
            return "", error.strerror or str(error)
        return digest.hexdigest(), ""

    def _root(self) -> Path:
        root = self._path()
        if "://" in self.directory:
            raise ConfigError(
                f"data source {self.directory!r}: only local and mounted folders are read; "
                "mount the bucket or copy the photographs"
            )
        if root.is_file():
            raise ConfigError(f"data source {self.directory!r} is a file; {_EXPECTED}")
        if not root.is_dir():
            raise ConfigError(f"data source {self.directory!r} does not exist; {_EXPECTED}")
        if not os.access(root, os.R_OK | os.X_OK):
            raise ConfigError(
                f"data source {self.directory!r} cannot be read by this user; {_EXPECTED}"
            )
        return root

    def _given_splits(self, root: Path, folders: list[_Entry]) -> Mapping[str, str]:
        """Folder name → split when the root holds splits, empty when it holds classes."""
        given = {f.name: SPLIT_FOLDERS[f.name.lower()] for f in folders if _is_split(f.name)}
        others = [folder.name for folder in folders if not _is_split(folder.name)]
        if len(set(given.values())) < len(given):
            raise ConfigError(
                f"data source {self.directory!r} names one split twice: found "
                f"{_some(sorted(given))}; keep one folder for each of train, validation and test"
            )
        if not given or (others and names.TRAIN not in given.values()):
            return {}  # a class may be called "test"
        if others and len(given) == 1:
            return {}
        if others:
            raise ConfigError(
                f"data source {self.directory!r} mixes split folders ({_some(sorted(given))}) "
                f"with others ({_some(others)}); move the others away, or put every class "
                "folder into a split folder"
            )
        if names.TRAIN not in given.values():
            raise ConfigError(
                f"data source {self.directory!r} holds {_some(sorted(given))} but no train "
                "folder; add one, or name the folder that holds the classes"
            )
        return given

    def _collect_split(self, walk: _Walk, folder: _Entry, split: str) -> set[str]:
        """Items of one split folder; returns its class names."""
        entries = walk.entries(folder.path)
        for entry in entries:
            if entry.kind == "file":
                walk.add(entry, None, split, linked=folder.symlink)
        return self._collect_classes(walk, [e for e in entries if e.kind == "folder"], split)

    def _collect_classes(self, walk: _Walk, folders: list[_Entry], split: str | None) -> set[str]:
        """Items of class folders; an empty one stays in the vocabulary, and is noted."""
        for entry in folders:
            try:
                entry.name.encode("utf-8")
            except UnicodeEncodeError:
                raise ConfigError(
                    f"class folder {entry.name!r} in {self.directory!r} has a name that is not "
                    "UTF-8; rename it: the name is what the model will answer"
                ) from None
            if walk.collect(entry, entry.name, split) == 0:
                walk.note("empty_class", entry.path, "no file in it")
        return {entry.name for entry in folders}

    def _no_folders(self, root: Path, files: list[_Entry], notes: list[Note]) -> ConfigError:
        if files:
            found = f"{len(files)} files directly in it ({_some([f.name for f in files])})"
            found += " and no folder, so no file has a class"
        else:
            hidden = sum(note.kind == "hidden" for note in notes)
            found = f"nothing but {hidden} hidden entries" if hidden else "nothing"
        return ConfigError(f"data source {self.directory!r}: found {found}; {_EXPECTED}")

    def _check_classes(
        self, root: Path, folders: list[_Entry], classes: set[str], walk: _Walk, split: bool
    ) -> None:
        """Fewer than two classes, or no file at all, is not data to learn from."""
        if len(classes) < 2:
            only = folders[0]
            inner = [e.name for e in _Walk(root).entries(only.path) if e.kind == "folder"]
            if not split and len(folders) == 1 and len(inner) >= 2:
                raise ConfigError(
                    f"data source {self.directory!r}: found a single folder {only.name!r} that "
                    f"holds {len(inner)} folders ({_some(inner)}): one level too deep; give "
                    f"{Path(self.directory) / only.name!s} instead"
                )
            found = f"one class only ({_some(sorted(classes))})" if classes else "no class folder"
            raise ConfigError(
                f"data source {self.directory!r}: found {found}, at least two are needed; "
                f"{_EXPECTED}"
            )
        if not any(item.label for item in walk.items):
            raise ConfigError(
                f"data source {self.directory!r}: found {len(classes)} class folders "
                f"({_some(sorted(classes))}) without a single file; put the photographs into them"
            )


def _is_split(name: str) -> bool:
    return name.lower() in SPLIT_FOLDERS


def _some(values: list[str], limit: int = 5) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(values[:limit])
    return f"{shown}, … ({len(values) - limit} more)" if len(values) > limit else shown
