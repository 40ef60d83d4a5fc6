"""Moving a folder on file systems that may not be able to rename one.

A bucket that is mounted with Cloud Storage FUSE has no folders of its own. There, each file is
moved, in an order that a reader can rely on.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Sequence
from pathlib import Path

#: What a file system answers that cannot rename folders. Cloud Storage FUSE counts more objects
#: than its limit, which is 0 by default, and says EMFILE; its first versions said ENOSYS.
_REFUSALS = {errno.EMFILE, errno.ENOSYS, errno.EOPNOTSUPP}


def cannot_rename_folders(error: OSError) -> bool:
    """Return whether a folder was not renamed because its file system cannot do that."""
    return error.errno in _REFUSALS


def move(folder: Path, target: Path, last: Sequence[str] = ()) -> None:
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
