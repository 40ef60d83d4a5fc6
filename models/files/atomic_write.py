"""Writing a file and moving a folder so that a reader sees all or nothing, also after a power loss.

The content goes to a file beside the target, is forced to disk and renamed; then the folder is
forced to disk too, because the name is part of the folder. The same four steps as SQLite's and
LevelDB's (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from imgpipe.models.machine.system import open_files

#: A file system's journal takes several requests in one go, which thousands of small files need.
_SYNCS_AT_ONCE = 16
_MOST_LINKS = 40  # that Linux follows in one path
#: What a file system answers that cannot rename folders, such as a bucket that is mounted with
#: Cloud Storage FUSE. That counts more objects than its limit, which is 0 by default, and says
#: EMFILE; its first versions said ENOSYS.
_REFUSALS = {errno.EMFILE, errno.ENOSYS, errno.EOPNOTSUPP}
#: Prefix of unfinished files. Readers of a folder pass over names that begin with it.
TEMPORARY = ".tmp-"


def sync(path: Path) -> None:
    """Force a file's content, or the names in a folder, to disk.

    Raises:
        OSError: The file cannot be opened or written to disk.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Force an existing folder with everything below it to disk."""
    from concurrent.futures import ThreadPoolExecutor  # not for every `imgpipe --help`

    tree = [(Path(parent), files) for parent, _, files in os.walk(folder)]
    with ThreadPoolExecutor(_SYNCS_AT_ONCE) as pool:
        list(pool.map(sync, [parent / name for parent, files in tree for name in files]))
    for parent, _ in tree:  # last: a name that is on disk before its file would show an empty one
        sync(parent)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Write a file under another name that becomes `path` when the block ends without an error.

    Args:
        path: The file to create or replace. Its folder is created when it is missing. A symbolic
            link is followed, so that the file it points to is replaced and not the link.

    Yields:
        The path to write to, in the same folder, under a name that no second attempt shares.

    Raises:
        OSError: The file cannot be written. What was at `path` is still there.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        yield beside
        sync(beside)
        beside.replace(target)
        sync(target.parent)
    except BaseException:  # Ctrl-C too must leave no unfinished file
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def atomic_write(path: Path, content: bytes | str) -> None:
    """Write bytes, or text as UTF-8, to a file, whole or not at all.

    Args:
        path: The file to create or replace; its folder is created when it is missing. A pipe or a
            device cannot be replaced and is written to. So is an open file of this process, such
            as `/dev/stdout`, after what was written to it before.
        content: What is written.

    Raises:
        OSError: The file cannot be written. What was at `path` is still there.
    """
    # A byte of a file name that is not UTF-8 is a lone surrogate in Python, whose escape, such as
    # \udce9, JSON reads back.
    if isinstance(content, str):
        content = content.encode("utf-8", "backslashreplace")
    descriptor = _descriptor(path)
    if descriptor is not None:
        # A duplicate has the same position in the file; one that is opened by its name has not.
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        return
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    with writing(path) as beside:
        beside.write_bytes(content)


def _descriptor(path: Path) -> int | None:
    """Return the number of an open file of this process that a path or its links name, or None."""
    for _ in range(_MOST_LINKS):
        if not (path.name.isdecimal() or path.is_symlink()):
            break
        folder = Path(os.path.realpath(path.parent))
        if path.name.isdecimal() and folder in open_files():
            return int(path.name)
        if not path.is_symlink():
            break
        path = folder / path.readlink()
    return None


def cannot_rename_folders(error: OSError) -> bool:
    """Return whether a folder was not renamed because its file system cannot do that."""
    return error.errno in _REFUSALS


def move_folder(folder: Path, target: Path, last: Sequence[str] = ()) -> None:
    """Move a folder, atomically where the file system can rename folders.

    Elsewhere `target` becomes complete file by file: first the files of sub-folders, and at the end
    those in `last`. Each file appears as a whole, if the file system renames files atomically.

    Args:
        folder: The folder to move.
        target: Its new path on the same file system, at which there is nothing yet.
        last: Names of files directly in the folder, by which readers tell that it is complete.

    Raises:
        OSError: The folder cannot be moved, or there is something at `target`. What this call wrote
            there is removed.
    """
    try:
        folder.rename(target)
    except OSError as error:
        if not cannot_rename_folders(error):
            raise
        target.mkdir()  # fails if there is one, which another process may have made just now
        try:
            _move_files(folder, target, last)
        except BaseException:  # Ctrl-C too must leave no incomplete folder
            shutil.rmtree(target, ignore_errors=True)
            raise


def _move_files(folder: Path, target: Path, last: Sequence[str]) -> None:
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    ranks = {Path(name): rank for rank, name in enumerate(last, start=1)}
    for name in sorted(names, key=lambda name: (len(name.parts) == 1, ranks.get(name, 0))):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).replace(target / name)
    shutil.rmtree(folder)
