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
    """Within the block, refuse to rename folders; yield the new paths of the renamed files.

    `answer` is the number of the error, by default that of Cloud Storage FUSE. The disk is full
    after so many `files`, after each of which `each` is called.
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
