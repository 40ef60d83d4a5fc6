"""A content-addressed store in one sqlite file: keys of 32 bytes to values of any length.

What is in it is a cache: artifacts stay valid when it is deleted, and a broken file or value costs
the work again, never a wrong answer. sqlite gives atomic writes, several readers and writers and
survival of kill -9 without code of ours.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from imgpipe.models.errors import ResourceError

_log = logging.getLogger(__name__)
_BUSY_SECONDS = 60.0  # another writer holds the file for one batch at a time
_VARIABLES = 500  # keys a SELECT; sqlite's oldest limit is 999
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_CHECKSUM = 4  # bytes before each value


class BlobStore:
    """Values by key in ``<directory>/<name>.sqlite``; safe for several processes and threads.

    Args:
      directory: created when absent.
      name: of the file and of the table in it.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._path = directory / f"{name}.sqlite"
        self._table = name
        self._lock = threading.Lock()
        directory.mkdir(parents=True, exist_ok=True)
        with self._failures_named():
            try:
                self._db = self._open()
            except sqlite3.DatabaseError as error:
                self._start_anew(error)

    def _start_anew(self, error: sqlite3.DatabaseError) -> None:
        """Set a damaged file aside with its journal and begin an empty one.

        What is only locked, full or not to be written is no damage: that error goes on.
        """
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
            raise error
        _log.warning("store %s is damaged (%s); set aside as .broken", self._path, error)
        if hasattr(self, "_db"):
            self._db.close()
        for suffix in ("", "-wal", "-shm"):
            file = self._path.with_name(self._path.name + suffix)
            if file.exists():
                file.replace(file.with_name(f"{self._path.stem}.broken{suffix}"))
        self._db = self._open()

    @contextlib.contextmanager
    def _failures_named(self) -> Iterator[None]:
        """What sqlite cannot do, as a failure that a person can act on."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise ResourceError(
                f"the store {self._path} cannot be used: {error}. Wait for other runs that use "
                "it, free disk space, or name another folder (bank.store)."
            ) from error

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, check_same_thread=False)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")  # a lost last commit is done again
        db.execute(
            f"CREATE TABLE IF NOT EXISTS {self._table} (key BLOB PRIMARY KEY, value BLOB) "
            "WITHOUT ROWID"
        )
        return db

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Values of those `keys` that are stored and intact."""
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), _VARIABLES):
            part = keys[start : start + _VARIABLES]
            marks = ",".join("?" * len(part))
            query = f"SELECT key, value FROM {self._table} WHERE key IN ({marks})"
            asked = set(part)
            for key, value in self._rows(query, part):
                # A damaged page can give a key that was not asked for, and a value of any type.
                whole = key in asked and isinstance(value, bytes) and len(value) >= _CHECKSUM
                if whole and _checksum(value[_CHECKSUM:]) == value[:_CHECKSUM]:
                    found[key] = value[_CHECKSUM:]
        return found

    def _rows(self, query: str, keys: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        """Rows of a query; none, and a new file, when this one is found to be damaged."""
        with self._failures_named(), self._lock:
            try:
                return self._db.execute(query, list(keys)).fetchall()
            except sqlite3.DatabaseError as error:
                self._start_anew(error)
                return []

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Keep `values`, in one transaction."""
        with self._failures_named(), self._lock:
            try:
                self._insert(values)
            except sqlite3.DatabaseError as error:
                self._start_anew(error)
                self._insert(values)

    def _insert(self, values: Mapping[bytes, bytes]) -> None:
        rows = ((key, _checksum(value) + value) for key, value in values.items())
        with self._db:
            self._db.executemany(f"INSERT OR REPLACE INTO {self._table} VALUES (?, ?)", rows)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


def _checksum(value: bytes) -> bytes:
    return zlib.crc32(value).to_bytes(_CHECKSUM, "little")
