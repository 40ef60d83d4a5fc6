"""Safe reading of files that come from other people.

A file of a data source may be a pipe that blocks, an endless device, a sparse file of terabytes or
a link to a private file outside of the source. These functions refuse all of them with an
`OSError` that names the reason, for all sources alike.
"""

from __future__ import annotations

import errno
import functools
import gzip
import hashlib
import os
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar, cast

from imgpipe.components.common.image_file.file_names import is_hidden
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.files import regular_files
from imgpipe.models.files.atomic_write import writing

#: Largest size in bytes of a file that is read (256 MiB). Folders of images may contain videos.
BYTE_LIMIT = 1 << 28
GZIP_MAGIC = b"\x1f\x8b\x08"  # RFC 1952, 2.3.1: two fixed bytes, and 8 for deflate
#: Unpacked bytes above which a compression ratio over `BOMB_RATIO` is refused.
BOMB_BYTES = 1 << 30
#: A tar of images has a ratio near 1; the largest possible ratio of deflate is 1032.
BOMB_RATIO = 200
_CHUNK = 1 << 20  # bytes that are unpacked at once
_inflating = threading.Lock()
_Function = TypeVar("_Function", bound=Callable[..., Any])


def check_inside(file: Path, root: Path) -> None:
    """Check that symbolic links do not lead from `file` to a path outside of `root`.

    Raises:
        OSError: They do, or no file can have this path.
    """
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
    """Check that all files of a data source are regular files below its root.

    Args:
        source: The source, for messages.
        files: Files to check.
        root: Root folder of the source.
        follow_links: Whether symbolic links may lead to files outside of `root`.

    Raises:
        ConfigError: A file is not regular, cannot be opened, or is outside of `root`.
    """
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


def inflated(file: Path, store: str) -> Path:
    """Unpack a gzip file once, and return the unpacked file.

    Args:
        file: A gzip file with one or several members.
        store: Folder in which the unpacked file is kept, which replaces that of an older version
            of the same file. "" for a temporary folder, which is removed when this process ends.

    Raises:
        OSError: The file cannot be read, is damaged, or unpacks to far more data than images do.
        ResourceError: The unpacked file cannot be written.
    """
    status = file.stat()
    version = f"{status.st_mtime_ns}:{status.st_size}:{status.st_ino}"
    name, state = (hashlib.sha256(text.encode()).hexdigest()[:16] for text in (str(file), version))
    folder = Path(store) / "unpacked" if store else Path(_temporary_folder().name)
    target = folder / f"{name}-{state}"
    with _inflating:
        if not target.exists():
            try:
                with writing(target) as path:
                    _inflate(file, path)
            except gzip.BadGzipFile as error:
                raise OSError(f"the gzip stream is broken: {error}") from None
            except (zlib.error, EOFError) as error:
                raise OSError(f"the gzip stream is cut off or broken: {error}") from None
            except OSError as error:
                if not error.errno:
                    raise
                raise ResourceError(
                    f"{file} cannot be unpacked to {folder}: {error.strerror}. Free space there, "
                    "or unpack it yourself and name the unpacked one"
                ) from error
            for older in folder.glob(f"{name}-*"):
                if older != target:
                    older.unlink(missing_ok=True)
    return target


def _inflate(file: Path, target: Path) -> None:
    done = 0
    with file.open("rb") as packed, gzip.open(packed) as stream, target.open("wb") as out:
        while chunk := stream.read(_CHUNK):
            out.write(chunk)
            done += len(chunk)
            if done > BOMB_BYTES and done > BOMB_RATIO * packed.tell():
                raise OSError(
                    f"it unpacks to more than {BOMB_RATIO} times its size: {done >> 20} MiB so far"
                )


@functools.cache
def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="imgpipe-unpacked-")
