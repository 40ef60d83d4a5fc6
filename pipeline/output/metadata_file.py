"""Checks and repairs the SQLite file of ML Metadata.

For a damaged, locked or unreadable file, ML Metadata reports the SQL statement that failed.
Therefore the file is checked with Python's sqlite3 before TFX is imported, and people read one
sentence that tells them what to do.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from imgpipe.models.errors import ResourceError
from imgpipe.models.files.atomic_write import writing

NAME = "metadata.sqlite"
COPY = "metadata.copy.sqlite"  # the database as it was after the last run
BUSY_SECONDS = 5.0  # for which another program may hold the lock of the database
_SCHEMA_VERSION = 10  # of the tables that the installed ML Metadata reads and writes
#: Errors of sqlite3 for a damaged file; UnicodeError if its message cannot be decoded.
_DAMAGED = (sqlite3.Error, UnicodeError, OverflowError, MemoryError)
_NEW = "The next run creates a new database."
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
#: SQLite opens paths of up to 512 bytes, of which files below the folder need the rest.
LONGEST_FOLDER = 440


class _OtherVersion(sqlite3.DatabaseError):
    """The tables are those of another version of ML Metadata, which this one cannot read."""


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
            f"{LONGEST_FOLDER}, because SQLite cannot open longer ones. Choose a shorter --out OUT."
        )
    path = out / NAME
    if not path.exists():
        return ""
    if not path.is_file():
        expected = "expected the SQLite file of ML Metadata"
        return f"{path} is not a file; {expected}. Run: {repair_command(out)}"
    if not to_read and not os.access(path, os.R_OK | os.W_OK):
        return f"{path} cannot be written. Change its permissions, or choose another --out OUT."
    try:
        with _opened(path, to_read) as db:
            _read_all(db)
    except _DAMAGED as error:
        # An extended code has the primary one in its lowest byte (https://sqlite.org/rescode.html).
        if to_read and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY:
            return _fault_after_kill(out)
        if isinstance(error, _OtherVersion):
            return (
                f"{path} has {error}. Use the version of imgpipe that wrote it, or another --out "
                "OUT. To keep this file under another name, and continue with the copy of the "
                f"last run or with a new database: {repair_command(out)}"
            )
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            return f"{path} is in use by another program. Wait until it has ended, then run again."
        return f"{path} is damaged: {error}. Run: {repair_command(out)}"
    return ""


def _fault_after_kill(out: Path) -> str:
    """Check a database whose last change a killed run did not finish; SQLite undoes the change."""
    if all(os.access(path, os.R_OK | os.W_OK) for path in (out, out / NAME)):
        return fault(out)
    return (
        f"{out / NAME} holds an unfinished change of a run that was killed, and is read-only. "
        f"Run imgpipe doctor {shlex.quote(str(out))} as a user who may write to it."
    )


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


def keep_copy(out: Path) -> None:
    """Copy the database of a run that has ended, so that `repair` can restore it.

    Without a database, an earlier copy stays as it is.

    Args:
        out: Output folder of the run.

    Raises:
        OSError: The disk is full or fails.
        sqlite3.Error: The database cannot be read, or another program does not release it.
    """
    if not (out / NAME).exists():
        return
    deadline = time.monotonic() + BUSY_SECONDS

    def give_up(status: int, remaining: int, total: int) -> None:
        # SQLite would try again for ever, without a return to Python, which handles signals.
        if status in _BUSY and time.monotonic() > deadline:
            raise sqlite3.OperationalError("database is locked")

    # SQLite's own backup, whose copy is consistent even if another program is writing.
    with (
        writing(out / COPY) as target,
        contextlib.closing(sqlite3.connect(out / NAME, timeout=0)) as source,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        source.backup(copy, progress=give_up)


def forget_stale_copy(out: Path) -> None:
    """Remove the copy if there is no database, before a run creates a new one.

    The new database will describe other runs than the copy does.

    Args:
        out: Output folder of a run.
    """
    if not (out / NAME).exists():
        (out / COPY).unlink(missing_ok=True)


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


def is_lost(out: Path) -> bool:
    """Whether the database was removed and `repair` can restore the copy of the last run.

    Args:
        out: Output folder of a run.
    """
    return not (out / NAME).exists() and (out / COPY).is_file()


def repair(out: Path) -> str:
    """Replace a damaged or removed database.

    A damaged database is replaced by all of its rows if they can still be read, and otherwise by
    the copy of the last run. The caller holds the lock of the output folder. The damaged file is
    renamed and kept; artifacts and served versions are not changed.

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
        if is_lost(out):
            return (
                _restored(out, rescued) or f"{path} is missing, and its copy cannot be read. {_NEW}"
            )
        path.rename(aside)
        # These belong to the damaged file; SQLite would apply them to a new one of the same name.
        for suffix in ("-journal", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
        if _rescue(aside, rescued):
            rescued.rename(path)
            return f"{path} was rebuilt from what could be read; the original is {aside.name}."
        told = f"{path} was renamed to {aside.name}."
        return f"{told} {_restored(out, rescued) or _NEW}"
    except OSError as error:
        raise ResourceError(f"cannot repair {path}: {error.strerror}.") from None
    finally:
        rescued.unlink(missing_ok=True)


def repair_command(out: Path) -> str:
    """Return the command that calls `repair`."""
    return f"imgpipe doctor {shlex.quote(str(out))} --repair"


@contextlib.contextmanager
def _opened(path: Path, to_read: bool = False) -> Iterator[sqlite3.Connection]:
    """Open the database in a transaction, which is rolled back at the end."""
    # Mode rw, unlike the default, creates no file if there is none.
    address = f"{path.absolute().as_uri()}?mode={'ro' if to_read else 'rw'}"
    db = sqlite3.connect(address, timeout=BUSY_SECONDS, isolation_level=None, uri=True)
    with contextlib.closing(db):
        # IMMEDIATE takes the lock for writing, so that it fails if another program holds that.
        db.execute("BEGIN" if to_read else "BEGIN IMMEDIATE")
        yield db
        db.execute("ROLLBACK")


def _read_all(db: sqlite3.Connection) -> None:
    """Check the structure and read every row, whose text must be UTF-8."""
    [answer] = db.execute("PRAGMA quick_check(1)").fetchone()
    if answer != "ok":
        raise sqlite3.DatabaseError(answer)
    names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
    if names and "MLMDEnv" not in names:  # the table with the version of ML Metadata's schema
        raise sqlite3.DatabaseError("it is a SQLite database of another program")
    if names:
        for (version,) in db.execute("SELECT schema_version FROM MLMDEnv"):
            if version != _SCHEMA_VERSION:
                raise _OtherVersion(
                    "the tables of another version of ML Metadata: expected schema version "
                    f"{_SCHEMA_VERSION}, received {version}"
                )
    # quick_check reads the structure alone; text that is not UTF-8 fails when its row is read.
    for name in names:
        for _ in db.execute(f'SELECT * FROM "{name}"'):
            pass


def _restored(out: Path, target: Path) -> str:
    """Put the copy of the last run in place; return a sentence, or "" if it cannot be used."""
    if not _rescue(out / COPY, target):
        return ""
    ended = time.strftime("%Y-%m-%d %H:%M", time.localtime((out / COPY).stat().st_mtime))
    target.rename(out / NAME)
    return (
        f"{out / NAME} was restored from the copy of the run that ended at {ended}, so that the "
        "next run takes the results of that run and of those before it from the cache."
    )


def _rescue(damaged: Path, target: Path) -> bool:
    """Copy all readable rows into `target`; return whether this gives a complete database."""
    if not damaged.is_file():
        return False
    try:
        with (
            contextlib.closing(sqlite3.connect(damaged)) as source,
            contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy,
        ):
            # The dump reads tables and creates the indices again, so damaged ones do not matter.
            for statement in source.iterdump():
                copy.execute(statement)
        with _opened(target) as db:
            _read_all(db)
    except _DAMAGED:
        target.unlink(missing_ok=True)
        return False
    return True
