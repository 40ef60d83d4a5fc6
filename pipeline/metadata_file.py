"""Whether the SQLite file of ML Metadata can be used, and a new start where it cannot.

ML Metadata answers a damaged, locked or unreadable file with the SQL statement that failed. Here
the file is looked at with Python's own sqlite3 before TFX is imported, so that a person reads one
sentence and what to do.
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
#: What sqlite3 raises for a damaged file; where its message is no text, a UnicodeDecodeError.
_DAMAGED = (sqlite3.Error, UnicodeError, OverflowError, MemoryError)
#: SQLite opens paths up to 512 bytes; the stores and journals below the folder need the rest.
LONGEST_FOLDER = 440


def require_usable(out: Path) -> None:
    """Refuse an output folder whose metadata database cannot be used.

    Args:
        out: Output folder of a run; it need not hold a database yet.

    Raises:
        ResourceError: What is wrong, and what to do.
    """
    if wrong := fault(out):
        raise ResourceError(wrong)


def fault(out: Path, to_read: bool = False) -> str:
    """What keeps the metadata database of an output folder from being used.

    Every row is read, which takes some 50 ms after a hundred runs.

    Args:
        out: Output folder of a run.
        to_read: Whether the database is to be read alone, also while a run is using it.

    Returns:
        A sentence with what to do; "" when a run can use the database or make it.
    """
    length = len(os.fsencode(out.absolute()))
    if length > LONGEST_FOLDER:
        return (
            f"the path of the output folder has {length} bytes; expected are at most "
            f"{LONGEST_FOLDER}, because SQLite opens no longer ones. Choose a shorter --out DIR."
        )
    path = out / NAME
    if not path.exists():
        return ""
    if not path.is_file():
        return f"{path} is no file; expected is ML Metadata's SQLite file. {_repair(out)}"
    if not to_read and not os.access(path, os.R_OK | os.W_OK):
        return f"{path} cannot be written. Change its permissions, or choose another --out DIR."
    try:
        with _opened(path, to_read) as db:
            _read_all(db)
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return f"{path} is in use by another program. Wait for it to end, then run again."
        return f"{path} is damaged: {error}. {_repair(out)}"
    except _DAMAGED as error:
        return f"{path} is damaged: {error}. {_repair(out)}"
    return ""


def cannot_be_used(out: Path) -> ResourceError:
    """The error for a database that failed while a run was using it.

    Args:
        out: Output folder of the run.
    """
    return ResourceError(
        fault(out)
        or f"{out / NAME} could not be used for a moment. Wait for other programs that use it, "
        "then run again."
    )


def repair(out: Path) -> str:
    """Set a damaged database aside; start it anew with whatever can be read of it.

    The caller holds the lock of the output folder. What was set aside is never changed, and
    neither are artifacts and served versions.

    Args:
        out: Output folder of a run.

    Returns:
        What was done, as a sentence.

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
            return (
                f"{path} was set aside as {aside.name}. The next run starts a new one; features "
                "and verdicts that are stored by content are used again."
            )
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
    """A connection that holds the right to write, or to read, and gives it back unused."""
    address = f"{path.absolute().as_uri()}?mode={'ro' if to_read else 'rw'}"
    db = sqlite3.connect(address, timeout=_BUSY_SECONDS, isolation_level=None, uri=True)
    try:
        db.execute("BEGIN" if to_read else "BEGIN IMMEDIATE")
        yield db
        db.execute("ROLLBACK")
    finally:
        db.close()


def _read_all(db: sqlite3.Connection) -> None:
    """Check the structure, and read every row, whose text must be UTF-8."""
    [answer] = db.execute("PRAGMA quick_check(1)").fetchone()
    if answer != "ok":
        raise sqlite3.DatabaseError(answer)
    names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
    if names and "MLMDEnv" not in names:
        raise sqlite3.DatabaseError("it is a SQLite database, and not one of ML Metadata")
    for name in names:
        for _ in db.execute(f'SELECT * FROM "{name}"'):
            pass


def _rescue(damaged: Path, target: Path) -> bool:
    """Copy what can be read into `target`; False when that is no whole database."""
    if not damaged.is_file():
        return False
    try:
        with (
            contextlib.closing(sqlite3.connect(damaged)) as source,
            contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy,
        ):
            for statement in source.iterdump():  # reads tables only, so that indices may be damaged
                copy.execute(statement)
        with _opened(target) as db:
            _read_all(db)
    except _DAMAGED:
        target.unlink(missing_ok=True)
        return False
    return True
