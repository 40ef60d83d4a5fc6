"""A content-addressed store in one SQLite file, from keys of 32 bytes to values of any length.

The store is a cache. Artifacts stay valid when it is deleted, and a damaged file or value only
means that the value is computed again. SQLite provides atomic writes, concurrent readers and
writers, and recovery after a killed process. Its file must be used by one host only; where workers
run on several, `open_store` returns a `BlobFiles` instead.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from imgpipe.components.storage.blob_files import BlobFiles, checked, with_checksum
from imgpipe.models.errors import ResourceError
from imgpipe.models.files.local_path import local_path

_log = logging.getLogger(__name__)
BUSY_SECONDS = 60.0  # another writer locks the file for one batch at a time
_VARIABLES = 500  # keys in one SELECT; the lowest limit of any SQLite version is 999
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def path_of(directory: Path, name: str) -> Path:
    """Return the path of the file of the store `name` in a folder, whether or not it exists."""
    return directory / f"{name}.sqlite"


#: In front of the path of a store that several hosts use.
SHARED = "shared:"


def open_store(locator: str | Path, name: str) -> BlobStore | BlobFiles:
    """Open a store.

    Args:
        locator: Folder of the store, which must be on this host and is created when absent. With
            ``shared:`` in front, a folder that several hosts use, whose values are single files.
        name: Name of the store in the folder.

    Raises:
        ConfigError: The folder is in a bucket.
        ResourceError: The store cannot be used.
    """
    store = BlobFiles if str(locator).startswith(SHARED) else BlobStore
    return store(folder_of(locator), name)


def stored_bytes(locator: str | Path, name: str) -> int:
    """Return about how much a store takes on the disk; 0 if it does not exist.

    Args:
        locator: Folder of the store, as `open_store` takes it.
        name: Name of the store in the folder.
    """
    if str(locator).startswith(SHARED):
        return BlobFiles(folder_of(locator), name).stored_bytes()
    file = place_of(locator, name)
    return file.stat().st_size if file.exists() else 0


def place_of(locator: str | Path, name: str) -> Path:
    """Return the file of a store, or the folder of its files, whether or not it exists.

    Args:
        locator: Folder of the store, as `open_store` takes it.
        name: Name of the store in the folder.
    """
    folder = folder_of(locator)
    return folder / name if str(locator).startswith(SHARED) else path_of(folder, name)


def folder_of(locator: str | Path) -> Path:
    """Return the folder of a store from its locator, with or without ``shared:`` in front.

    Raises:
        ConfigError: The folder is in a bucket.
    """
    return local_path(str(locator).removeprefix(SHARED), "the store of results")


class BlobStore:
    """Values by key in ``<directory>/<name>.sqlite``, safe for several processes and threads.

    Args:
        directory: Folder of the file, which is created when absent.
        name: Name of the file, without its suffix, and of the table in it.

    Raises:
        ResourceError: The file is locked for too long, cannot be written, or the disk is full. The
            methods raise it too.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._path = path_of(directory, name)
        self._table = name
        self._lock = threading.Lock()
        with self._explained_errors():
            directory.mkdir(parents=True, exist_ok=True)
            try:
                self._db = self._open()
            except sqlite3.DatabaseError as error:
                self._replace_damaged(error)

    def _replace_damaged(self, error: sqlite3.DatabaseError) -> None:
        """Rename a damaged file and its journal, and open an empty store.

        An error that is not damage, such as a locked file or a full disk, is raised again.
        """
        # An extended code has the primary one in its lowest byte (https://sqlite.org/rescode.html).
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
            raise error
        _log.warning("the store %s is damaged (%s); renamed to .broken", self._path, error)
        if hasattr(self, "_db"):  # not if the file could not be opened at all
            self._db.close()
        with contextlib.suppress(FileNotFoundError):
            # Another process may have put a new file in its place, which is not damaged.
            if self._path.stat().st_ino == self._inode:
                self._rename()
        self._db = self._open()

    def _rename(self) -> None:
        # A log must not stay beside another file (https://www.sqlite.org/howtocorrupt.html).
        for suffix in ("", "-wal", "-shm"):
            file = self._path.with_name(self._path.name + suffix)
            with contextlib.suppress(FileNotFoundError):
                file.replace(file.with_name(f"{self._path.stem}.broken{suffix}"))

    @contextlib.contextmanager
    def _explained_errors(self) -> Iterator[None]:
        """Turn errors of SQLite and of files into a ResourceError that says what to do."""
        try:
            yield
        except (OSError, sqlite3.DatabaseError) as error:
            raise ResourceError(
                f"the store {self._path} cannot be used: {error}. Wait for other runs that use "
                "it, free disk space, change its permissions, or name another folder "
                "(bank.store or judge.store)."
            ) from error

    def _open(self) -> sqlite3.Connection:
        # Threads share the connection, one at a time: every use of it holds `_lock`.
        db = sqlite3.connect(self._path, timeout=BUSY_SECONDS, check_same_thread=False)
        self._inode = self._path.stat().st_ino
        db.text_factory = bytes  # a flipped bit makes a text of a value, which may not be UTF-8
        # With a write-ahead log readers do not wait for a writer (https://www.sqlite.org/wal.html).
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")  # a last commit that is lost is computed again
        db.execute(
            f"CREATE TABLE IF NOT EXISTS {self._table} (key BLOB PRIMARY KEY, value BLOB) "
            "WITHOUT ROWID"
        )
        return db

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Look values up.

        Args:
            keys: Keys of 32 bytes, as many as wanted.

        Returns:
            The values of those keys that are stored and intact.
        """
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), _VARIABLES):
            part = keys[start : start + _VARIABLES]
            marks = ",".join("?" * len(part))
            query = f"SELECT key, value FROM {self._table} WHERE key IN ({marks})"
            asked = set(part)
            for key, value in self._rows(query, part):
                # A damaged page can return a key that was not asked for, or a value of any type.
                whole = checked(value) if key in asked and isinstance(value, bytes) else None
                if whole is not None:
                    found[key] = whole
        return found

    def _rows(self, query: str, keys: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        """Rows of a query; a damaged file is replaced by an empty one, which has no rows."""
        with self._explained_errors(), self._lock:
            try:
                return self._db.execute(query, list(keys)).fetchall()
            except sqlite3.DatabaseError as error:
                self._replace_damaged(error)
                return []

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Store `values` by key, in one transaction."""
        with self._explained_errors(), self._lock:
            try:
                self._insert(values)
            except sqlite3.DatabaseError as error:
                self._replace_damaged(error)
                self._insert(values)

    def _insert(self, values: Mapping[bytes, bytes]) -> None:
        rows = ((key, with_checksum(value)) for key, value in values.items())
        with self._db:
            self._db.executemany(f"INSERT OR REPLACE INTO {self._table} VALUES (?, ?)", rows)

    def close(self) -> None:
        """Close the file."""
        self._db.close()
