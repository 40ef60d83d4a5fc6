"""Checks and repairs the SQLite file of ML Metadata.

For a damaged, locked or unreadable file, ML Metadata reports the SQL statement that failed.
Therefore the file is checked with Python's sqlite3 before TFX is imported, and people read one
sentence that tells them what to do.
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
_BUSY_SECONDS = 5.0
#: Errors of sqlite3 for a damaged file; UnicodeError if its message cannot be decoded.
_DAMAGED = (sqlite3.Error, UnicodeError, OverflowError, MemoryError)
#: SQLite opens paths of up to 512 bytes, of which files below the folder need the rest.
LONGEST_FOLDER = 440


def require_usable(out: Path) -> None:
    """Refuse an output folder whose metadata database cannot be used.

    Args:
        out: Output folder of a run; it need not hold a database yet.

    Raises:
        ResourceError: The database cannot be used; the message says why and what to do.
    """
    if wrong := fault(out):
        raise ResourceError(wrong)


def fault(out: Path, to_read: bool = False) -> str:
    """Check the metadata database of an output folder.

    Every row is read, which takes about 50 ms after a hundred runs.

    Args:
        out: Output folder of a run.
        to_read: Whether the database will only be read, which is possible during a run.

    Returns:
        Why the database cannot be used and what to do; "" if a run can use or create it.
    """
    length = len(os.fsencode(out.absolute()))
    if length > LONGEST_FOLDER:
        return (
            f"the path of the output folder has {length} bytes; expected at most "
            f"{LONGEST_FOLDER}, because SQLite cannot open longer ones. Choose a shorter --out DIR."
        )
    path = out / NAME
    if not path.exists():
        return ""
    if not path.is_file():
        return f"{path} is not a file; expected the SQLite file of ML Metadata. {_repair(out)}"
    if not to_read and not os.access(path, os.R_OK | os.W_OK):
        return f"{path} cannot be written. Change its permissions, or choose another --out DIR."
    try:
        with _opened(path, to_read) as db:
            _read_all(db)
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return f"{path} is in use by another program. Wait until it has ended, then run again."
        return f"{path} is damaged: {error}. {_repair(out)}"
    except _DAMAGED as error:
        return f"{path} is damaged: {error}. {_repair(out)}"
    return ""


def cannot_be_used(out: Path) -> ResourceError:
    """Build the error for a database that failed during a run.

    Args:
        out: Output folder of the run.
    """
    return ResourceError(
        fault(out)
        or f"{out / NAME} was temporarily unavailable. Wait until other programs have released it, "
        "then run again."
    )


def repair(out: Path) -> str:
    """Replace a damaged database by a new one with all rows that can still be read.

    The caller holds the lock of the output folder. The damaged file is renamed and kept; artifacts
    and served versions are not changed.

    Args:
        out: Output folder of a run.

    Returns:
        A sentence that says what was done.

    Raises:
        ResourceError: The file cannot be moved.
    """
    path = out / NAME
    aside = path.with_name(f"metadata.damaged-{time.strftime('%Y%m%d-%H%M%S')}.sqlite")
    rescued = path.with_name(f".rescued-{aside.name}")
    try:
        path.rename(aside)
        for suffix in ("-journal", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
        if not _rescue(aside, rescued):
            return f"{path} was renamed to {aside.name}. The next run creates a new database."
        rescued.rename(path)
    except OSError as error:
        raise ResourceError(f"cannot repair {path}: {error.strerror}.") from None
    finally:
        rescued.unlink(missing_ok=True)
    return f"{path} was rebuilt from what could be read; the original is {aside.name}."


def _repair(out: Path) -> str:
    return f"Run: imgpipe doctor {out} --repair"


@contextlib.contextmanager
def _opened(path: Path, to_read: bool = False) -> Iterator[sqlite3.Connection]:
    """Open the database in a transaction, which is rolled back at the end."""
    address = f"{path.absolute().as_uri()}?mode={'ro' if to_read else 'rw'}"
    db = sqlite3.connect(address, timeout=_BUSY_SECONDS, isolation_level=None, uri=True)
    try:
        db.execute("BEGIN" if to_read else "BEGIN IMMEDIATE")
        yield db
        db.execute("ROLLBACK")
    finally:
        db.close()


def _read_all(db: sqlite3.Connection) -> None:
    """Check the structure and read every row, whose text must be UTF-8."""
    [answer] = db.execute("PRAGMA quick_check(1)").fetchone()
    if answer != "ok":
        raise sqlite3.DatabaseError(answer)
    names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
    if names and "MLMDEnv" not in names:
        raise sqlite3.DatabaseError("it is a SQLite database of another program")
    for name in names:
        for _ in db.execute(f'SELECT * FROM "{name}"'):
            pass


def _rescue(damaged: Path, target: Path) -> bool:
    """Copy all readable rows into `target`; return whether this gives a complete database."""
    if not damaged.is_file():
        return False
    try:
        with (
            contextlib.closing(sqlite3.connect(damaged)) as source,
            contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy,
        ):
            for (
                statement
            ) in source.iterdump():  # reads only tables, so damaged indices do not matter
                copy.execute(statement)
        with _opened(target) as db:
            _read_all(db)
    except _DAMAGED:
        target.unlink(missing_ok=True)
        return False
    return True
