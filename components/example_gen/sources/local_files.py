"""Files that other people made, opened and read within bounds.

A file of a data source may be a pipe that never answers, a device that never ends, a sparse file
of terabytes or a link to a file that is nobody else's business. All of these are refused here with
an `OSError` that names the reason, so that every source treats them alike.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, AnyStr, BinaryIO

from imgpipe.components.example_gen.sources.layout import is_hidden
from imgpipe.models.errors import ConfigError

#: Bytes of a file that are read at all: films lie among photographs, and no photograph is so large.
BYTE_LIMIT = 1 << 28
_CHUNK = 1 << 20  # bytes read at once while hashing


def open_regular(file: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
      OSError: the file does not exist, cannot be read, or is a pipe, socket or device.
    """
    try:
        # A pipe without a writer would block `open` itself, hence O_NONBLOCK.
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # a NUL, or a character that the file system cannot spell
        raise OSError(errno.EINVAL, f"no file can have this path ({error})") from None
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        raise OSError(errno.EINVAL, "is not a regular file (a pipe, a socket or a device)")
    return os.fdopen(descriptor, "rb")


def read_bytes(file: Path, limit: int = BYTE_LIMIT) -> bytes:
    """The content of a regular file of at most `limit` bytes; OSError when it is no such file."""
    with open_regular(file) as stream:
        _check_size(os.fstat(stream.fileno()).st_size, limit)
        content = stream.read(limit + 1)  # the size of a file that grows, or of one in /proc, lies
        _check_size(len(content), limit)
        return content


def sha256(file: Path, limit: int = BYTE_LIMIT) -> str:
    """Hex SHA-256 of what `read_bytes` gives, with a small part in memory at a time."""
    digest, size = hashlib.sha256(), 0
    with open_regular(file) as stream:
        _check_size(os.fstat(stream.fileno()).st_size, limit)
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            _check_size(size, limit)
            digest.update(chunk)
    return digest.hexdigest()


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise OSError(errno.EFBIG, f"{size >> 20:,} MiB are over the limit of {limit >> 20} MiB")


def check_inside(file: Path, root: Path) -> None:
    """Raise OSError when symbolic links lead from `file` to a place outside of `root`."""
    try:
        target = os.path.realpath(file)
        inside = Path(target).is_relative_to(os.path.realpath(root))
    except ValueError as error:
        raise OSError(errno.EINVAL, f"no file can have this path ({error})") from None
    if not inside:
        raise OSError(
            errno.EPERM,
            f"is a link to {target!r}, outside of the data source; set data.follow_links = true "
            "to read it",
        )


def visible(folder: Path) -> list[Path]:
    """What a folder holds without hidden entries; nothing when it cannot be read."""
    try:
        return [entry for entry in folder.iterdir() if not is_hidden(entry.name)]
    except OSError:
        return []


def check_all(place: str, files: Iterable[Path], root: Path, follow_links: bool) -> None:
    """ConfigError unless all files of a data source are regular ones that lie below `root`."""
    for file in files:
        try:
            if not follow_links:
                check_inside(file, root)
            open_regular(file).close()
        except OSError as error:
            raise ConfigError(
                f"data source {place!r}: {file.name!r} {error.strerror or error}"
            ) from None


def lines(stream: IO[AnyStr], limit: int, too_long: Callable[[int], Exception]) -> Iterator[AnyStr]:
    """The lines of a stream, with their line ends.

    Args:
      stream: a file opened as text or bytes.
      limit: characters (or bytes) of the longest line that is accepted.
      too_long: makes the exception for a longer line from its number, counted from 1.
    """
    number = 0
    while line := stream.readline(limit + 1):
        number += 1
        if len(line) > limit:
            raise too_long(number)
        yield line
