"""Checks the SQLite file of ML Metadata, and sets a damaged one aside.

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
from collections.abc import Iterator
from pathlib import Path

from imgpipe.models.errors import ResourceError

NAME = "metadata.sqlite"
BUSY_SECONDS = 5.0  # for which another program may hold the lock of the database
_SCHEMA_VERSION = 10  # of the tables that the installed ML Metadata reads and writes
#: Errors of sqlite3 for a damaged file; UnicodeError if its message cannot be decoded.
_DAMAGED = (sqlite3.Error, UnicodeError, OverflowError, MemoryError)


def make_usable(out: Path) -> str:
    """Set a metadata database aside that a run cannot use. The caller holds the lock of the folder.

    Args:
        out: Output folder of a run; it need not hold a database yet.

    Returns:
        A sentence that says what was done, "" if there was nothing to do.

    Raises:
        ResourceError: The database is in use, cannot be written or cannot be moved; the message
            says what to do.
    """
    damage = fault(out)
    if not damage:
        return ""
    path = out / NAME
    aside = path.with_name(f"metadata.damaged-{time.strftime('%Y%m%d-%H%M%S')}.sqlite")
    try:
        path.rename(aside)
        # These belong to the damaged file; SQLite would apply them to a new one of the same name.
        for suffix in ("-journal", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
    except OSError as error:
        raise ResourceError(f"{damage}, and cannot be moved: {error.strerror}.") from None
    return (
        f"{damage}. It was renamed to {aside.name}, and this run executes every component again. "
        "Versions, stored features and results of inspection are kept."
    )


def fault(out: Path) -> str:
    """Check the metadata database of an output folder.

    Every row is read, which takes about 50 ms after a hundred runs.

    Args:
        out: Output folder of a run.

    Returns:
        What is wrong with its content, "" if a run can use or create it.

    Raises:
        ResourceError: The database is in use, or cannot be opened or written.
    """
    path = out / NAME
    if not path.exists():
        return ""
    if not path.is_file():
        return f"{path} is not a file; expected the SQLite file of ML Metadata"
    if not os.access(path, os.R_OK | os.W_OK):
        raise ResourceError(
            f"{path} cannot be written. Change its permissions, or choose another --out OUT."
        )
    try:
        with _opened(path) as db:
            _read_all(db)
    except _DAMAGED as error:
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            raise ResourceError(
                f"{path} is in use by another program. Wait until it has ended, then run again."
            ) from error
        return f"{path} is damaged: {error}"
    return ""


def cannot_be_used(out: Path) -> ResourceError:
    """Build the error for a database that failed during a run.

    Args:
        out: Output folder of the run.
    """
    try:
        damage = fault(out)
    except ResourceError as error:
        return error
    return ResourceError(
        f"{damage}. Run again, which sets it aside."
        if damage
        else f"{out / NAME} was temporarily unavailable. Wait until other programs have released "
        "it, then run again."
    )


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


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the database in a transaction, which is rolled back at the end."""
    # Mode rw, unlike the default, creates no file if there is none.
    address = f"{path.absolute().as_uri()}?mode=rw"
    db = sqlite3.connect(address, timeout=BUSY_SECONDS, isolation_level=None, uri=True)
    with contextlib.closing(db):
        # IMMEDIATE takes the lock for writing, so that it fails if another program holds that.
        db.execute("BEGIN IMMEDIATE")
        yield db
        db.execute("ROLLBACK")


def _read_all(db: sqlite3.Connection) -> None:
    """Check the structure and read every row, whose text must be UTF-8."""
    [answer] = db.execute("PRAGMA quick_check(1)").fetchone()
    if answer != "ok":
        raise sqlite3.DatabaseError(answer)
    names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
    if names:
        other = "SELECT schema_version FROM MLMDEnv WHERE schema_version IS NOT ?"
        for (version,) in db.execute(other, (_SCHEMA_VERSION,)):
            raise sqlite3.DatabaseError(
                "it has the tables of another version of ML Metadata: expected schema version "
                f"{_SCHEMA_VERSION}, received {version}"
            )
    # quick_check reads the structure alone; text that is not UTF-8 fails when its row is read, and
    # no condition of SQL finds it.
    for name in names:
        for _ in db.execute(f'SELECT * FROM "{name}"'):
            pass
