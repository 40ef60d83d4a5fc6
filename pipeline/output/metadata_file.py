"""The SQLite file of ML Metadata, which is set aside if it is damaged.

For a damaged, locked or unreadable file, ML Metadata reports the SQL statement that failed.
Therefore the file is checked with Python's sqlite3 before TFX is imported, and people read one
sentence. Without its database, a run executes every component again; features and results of
inspection are kept elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path

from imgpipe.models.errors import ResourceError

NAME = "metadata.sqlite"
BUSY_SECONDS = 5.0  # for which another program may hold the lock of the database
_SCHEMA_VERSION = 10  # of the tables that the installed ML Metadata reads and writes


def set_aside_if_damaged(path: Path) -> str:
    """Set a database aside that a run cannot use, and say so; "" if there was nothing to do.

    The caller holds the lock of the output folder. A database that is in use, cannot be written or
    cannot be moved raises ResourceError.
    """
    if _is_usable(path):
        return ""
    damaged = path.with_name(f"metadata.damaged-{time.strftime('%Y%m%d-%H%M%S')}.sqlite")
    try:
        path.rename(damaged)
        # These belong to the damaged file; SQLite would apply them to a new one of the same name.
        for suffix in ("-journal", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{path}{suffix}").rename(f"{damaged}{suffix}")
    except OSError as error:
        raise ResourceError(f"{path} is damaged, and cannot be moved: {error.strerror}.") from None
    return (
        f"{path} is damaged, or of another version of ML Metadata. It was renamed to "
        f"{damaged.name}, and this run executes every component again. "
        "Versions, stored features and results of inspection are kept."
    )


def _is_usable(path: Path) -> bool:
    """Whether a run can use or create the database.

    One that is in use, or cannot be opened or written, raises ResourceError.
    """
    if not path.exists():
        return True
    if not path.is_file():
        return False
    if not os.access(path, os.R_OK | os.W_OK):
        raise ResourceError(
            f"{path} cannot be written. Change its permissions, or choose another --out OUT."
        )
    try:
        # Mode rw, unlike the default, creates no file if there is none.
        address = f"{path.absolute().as_uri()}?mode=rw"
        db = sqlite3.connect(address, timeout=BUSY_SECONDS, isolation_level=None, uri=True)
        with contextlib.closing(db):
            # IMMEDIATE takes the lock for writing, so that it fails if another program holds that.
            db.execute("BEGIN IMMEDIATE")
            is_whole = db.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]
            is_empty = not db.execute("SELECT name FROM sqlite_master").fetchall()
            version = f"SELECT * FROM MLMDEnv WHERE schema_version IS NOT {_SCHEMA_VERSION}"
            return is_whole and (is_empty or not db.execute(version).fetchall())
    except (sqlite3.Error, UnicodeError) as error:  # a message may be no UTF-8
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            raise ResourceError(
                f"{path} is in use by another program. Wait until it has ended, then run again."
            ) from error
        return False


def skip_numbers(path: Path, used: int) -> None:
    """Make a run number its executions from `used` + 1, unless they have higher numbers already.

    Folders of artifacts have the number of their execution. After the database was lost, a new one
    would start from 1 and use the folders that earlier runs have recorded as theirs.

    Args:
        path: Database that ML Metadata has created.
        used: Highest number that a folder has.

    Raises:
        sqlite3.Error: The database cannot be read or written.
    """
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        # ML Metadata's tables count with AUTOINCREMENT (https://www.sqlite.org/autoinc.html).
        counter = "sqlite_sequence WHERE name = 'Execution'"
        [(last,)] = db.execute(f"SELECT coalesce(max(seq), 0) FROM {counter}")
        if last < used:
            db.execute(f"DELETE FROM {counter}")
            db.execute("INSERT INTO sqlite_sequence VALUES ('Execution', ?)", (used,))
