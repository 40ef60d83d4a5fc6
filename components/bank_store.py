"""The content-addressed store behind the feature bank: one sqlite file, keys to vectors.

It is a cache: every artifact stays valid when it is deleted, and a broken file or a broken
record costs a forward pass, never a wrong feature. sqlite gives atomic writes, several readers
and writers and survival of kill -9 without code of ours.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

_log = logging.getLogger(__name__)
_BUSY_SECONDS = 60.0  # another writer holds the file for one batch at a time
_VARIABLES = 500  # keys a SELECT; sqlite's oldest limit is 999


def record_key(image_hash: str, view_key: str) -> bytes:
    """Address of one vector: 32 bytes from the image's and the computation's own address."""
    return hashlib.sha256(f"{image_hash}:{view_key}".encode()).digest()


class FeatureStore:
    """Vectors by key, in ``<directory>/features.sqlite``; safe for several processes.

    Args:
      directory: created when absent.
      dim: length of every vector; records of another length count as absent.
    """

    def __init__(self, directory: Path, dim: int) -> None:
        self._path = directory / "features.sqlite"
        self._dim = dim
        directory.mkdir(parents=True, exist_ok=True)
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as error:
            broken = self._path.with_suffix(".broken")
            _log.warning("feature store %s is damaged (%s); moved to %s", self._path, error, broken)
            self._path.replace(broken)
            self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, check_same_thread=False)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")  # a lost last commit is recomputed
        db.execute(
            "CREATE TABLE IF NOT EXISTS features (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID"
        )
        return db

    def get(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """Vectors (float16 ``[dim]``) of those `keys` that are stored and intact."""
        found: dict[bytes, np.ndarray] = {}
        for start in range(0, len(keys), _VARIABLES):
            part = keys[start : start + _VARIABLES]
            marks = ",".join("?" * len(part))
            rows = self._db.execute(
                f"SELECT key, value FROM features WHERE key IN ({marks})", list(part)
            )
            for key, value in rows:
                body = value[4:]
                if (
                    len(body) == 2 * self._dim
                    and zlib.crc32(body).to_bytes(4, "little") == value[:4]
                ):
                    found[key] = np.frombuffer(body, "<f2")
        return found

    def put(self, vectors: Mapping[bytes, np.ndarray]) -> None:
        """Keep `vectors` (float16 ``[dim]`` each), in one transaction."""
        with self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO features VALUES (?, ?)", _rows(vectors.items())
            )

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


def _rows(items: Iterable[tuple[bytes, np.ndarray]]) -> Iterable[tuple[bytes, bytes]]:
    for key, vector in items:
        body = np.asarray(vector, "<f2").tobytes()
        yield key, _checksum(body) + body


def _checksum(body: bytes) -> bytes:
    return zlib.crc32(body).to_bytes(4, "little")
