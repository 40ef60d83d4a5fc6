"""Safe reading of files that come from other people.

A file of a data source may be a pipe that blocks, an endless device, a sparse file of terabytes or
a link to a private file outside of the source. These functions refuse all of them with an
`OSError` that names the reason, for all sources alike.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar, cast

from imgpipe.components.common.image_file.file_names import is_hidden
from imgpipe.models.errors import ConfigError
from imgpipe.models.files import regular_files

#: Largest size in bytes of a file that is read (256 MiB). Folders of images may contain videos.
BYTE_LIMIT = 1 << 28
_Function = TypeVar("_Function", bound=Callable[..., Any])


def check_inside(file: Path, root: Path) -> None:
    """Raise an OSError if links lead from `file` out of `root`, or no file can have this path."""
    try:
        target = os.path.realpath(file)
        inside = Path(target).is_relative_to(os.path.realpath(root))
    except ValueError as error:
        raise OSError(errno.EINVAL, f"no file can have this path ({error})") from None
    if not inside:
        raise OSError(
            errno.EPERM,
            f"is a link to {target!r}, outside of the data source; use "
            "--set data.follow_links=true to read it",
        )


def visible(folder: Path) -> list[Path]:
    """Entries of a folder that are not hidden; an empty list when it cannot be read."""
    try:
        return [entry for entry in folder.iterdir() if not is_hidden(entry.name)]
    except OSError:
        return []


def check_all(source: str, files: Iterable[Path], root: Path, follow_links: bool) -> None:
    """Raise a ConfigError unless all files of a source can be opened and are below its root."""
    for file in files:
        try:
            if not follow_links:
                check_inside(file, root)
            regular_files.open_regular(file).close()
        except OSError as error:
            raise ConfigError(
                f"data source {source!r}: {file.name!r} {error.strerror or error}"
            ) from None


def cached_until_changed(results: int) -> Callable[[_Function], _Function]:
    """Cache the last results of a function of a file's path, each until its file changes."""

    def decorate(function: _Function) -> _Function:
        @functools.lru_cache(results)
        def cached(version: tuple[int, ...], *arguments: Any) -> Any:
            return function(*arguments)

        @functools.wraps(function)
        def current(path: str, *arguments: Any) -> Any:
            status = Path(path).stat()
            return cached((status.st_mtime_ns, status.st_size, status.st_ino), path, *arguments)

        return cast("_Function", current)

    return decorate
