"""Temporary files of commands, which the next command removes when a process was killed.

Those of a run are below its own folder. Those of other commands are in a folder of the system's
folder for temporary files. The process locks that folder, and the system frees the lock when the
process ends, so that an unlocked folder belongs to no process.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from imgpipe.models.errors import ResourceError
from imgpipe.models.files.atomic_write import TEMPORARY

#: Only one thread at a time changes where this process writes temporary files. The same thread also
#: redirects the output of the process, and puts back what it found.
_ONE_AT_A_TIME = threading.RLock()
_NAME = "tmp"
_COMMAND = "imgpipe-command-"
#: Folders in which a run writes files atomically: decisions, seals, schemas, checkpoints.
_UNFINISHED = ("", "artifacts/*/*/", "runs/*/", "schema/**/")


@contextlib.contextmanager
def below(directory: Path) -> Iterator[None]:
    """Have this process and its child processes write temporary files below `directory`.

    Other threads wait until the block ends.

    Args:
        directory: Folder of the run. Its sub-folder ``tmp`` is removed at the end.
    """
    with _ONE_AT_A_TIME:
        yield from _below(directory / _NAME)


def _below(folder: Path) -> Iterator[None]:
    folder.mkdir(mode=0o700)
    # The variable is for child processes and C++, `tempdir` for this process, which has read the
    # variable before.
    variable, module = os.environ.get("TMPDIR"), tempfile.tempdir
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = module
        os.environ.pop("TMPDIR")
        if variable is not None:
            os.environ["TMPDIR"] = variable
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Create a folder for the temporary files of this process and those it starts.

    Folders of killed processes are removed first. Other threads wait until the block ends.

    Yields:
        The folder, which is removed at the end of the block.

    Raises:
        ResourceError: It cannot be created.
    """
    with _ONE_AT_A_TIME:
        yield from _folder()


def _folder() -> Iterator[Path]:
    try:
        parent = Path(tempfile.gettempdir())
        for left in parent.glob(f"{_COMMAND}*"):
            _remove_unlocked(left)
        path, descriptor = _locked_folder()
    except OSError as error:
        raise ResourceError(
            f"cannot create a folder for temporary files: {error.strerror or error}. Free some "
            "space, or set TMPDIR to a folder that can be written."
        ) from None
    try:
        with below(path):
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


def _locked_folder() -> tuple[Path, int]:
    """Create a folder and lock it, again if another process removed it before it was locked."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=_COMMAND))
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # removed by another process before it was opened
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.is_dir():
            return path, descriptor
        os.close(descriptor)


def _remove_unlocked(path: Path) -> None:
    """Remove a folder of this user that no process has locked."""
    try:
        # The folder for temporary files is shared: a link by another user must not lead elsewhere.
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return  # of another user, no folder, or removed meanwhile
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
    except BlockingIOError:
        pass  # its process is running
    finally:
        os.close(descriptor)


def sweep(out: Path) -> None:
    """Remove the temporary files of killed runs.

    The caller holds the lock of the output folder. Versions are left alone, because other programs
    publish there too.

    Args:
        out: Output folder of the runs.
    """
    for path in leftovers(out):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def leftovers(out: Path) -> list[Path]:
    """List the temporary files and folders of killed runs, while no run is working.

    Args:
        out: Output folder of the runs.
    """
    folders = list((out / "runs").glob(f"*/{_NAME}"))
    unfinished = (out.glob(f"{pattern}{TEMPORARY}*") for pattern in _UNFINISHED)
    return [*folders, *itertools.chain.from_iterable(unfinished)]
