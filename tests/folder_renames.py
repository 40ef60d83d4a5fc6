"""A file system that cannot rename folders, as a mounted bucket."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def refused(
    answer: int = errno.EMFILE, files: int | None = None, each: Callable[[], Any] = list
) -> Iterator[list[Path]]:
    """Within the block, refuse to rename folders.

    Args:
        answer: Error number of the refusal; that of Cloud Storage FUSE by default.
        files: Number of files that can be renamed before the disk is full; None for all.
        each: Called after each renamed file.

    Yields:
        The new paths of the renamed files, in their order.
    """
    rename, replace = os.rename, os.replace
    moved: list[Path] = []

    def renamed(source: Any, target: Any) -> None:
        if Path(source).is_dir():
            raise OSError(answer, os.strerror(answer), str(source))
        rename(source, target)

    def replaced(source: Any, target: Any) -> None:
        if len(moved) == files:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        replace(source, target)
        moved.append(Path(target))
        each()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", renamed)
        patch.setattr(os, "replace", replaced)
        yield moved
