"""A content-addressed store in one sqlite file: keys of 32 bytes to values of any length.

What is in it is a cache: artifacts stay valid when it is deleted, and a broken file or value costs
the work again, never a wrong answer. sqlite gives atomic writes, several readers and writers and
survival of kill -9 without code of ours.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

_log = logging.getLogger(__name__)
_BUSY_SECONDS = 60.0  # another writer holds the file for one batch at a time
_VARIABLES = 500  # keys a SELECT; sqlite's oldest limit is 999
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
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as error:
            broken = self._path.with_suffix(".broken")
            _log.warning("store %s is damaged (%s); moved to %s", self._path, error, broken)
            self._path.replace(broken)
            self._db = self._open()

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
            with self._lock:
                rows = self._db.execute(query, list(part)).fetchall()
            for key, value in rows:
                if _checksum(value[_CHECKSUM:]) == value[:_CHECKSUM]:
                    found[key] = value[_CHECKSUM:]
        return found

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Keep `values`, in one transaction."""
        rows = ((key, _checksum(value) + value) for key, value in values.items())
        with self._lock, self._db:
            self._db.executemany(f"INSERT OR REPLACE INTO {self._table} VALUES (?, ?)", rows)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


def _checksum(value: bytes) -> bytes:
    return zlib.crc32(value).to_bytes(_CHECKSUM, "little")
