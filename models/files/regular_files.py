"""Opens and reads regular files within bounds, and refuses addresses and patterns of paths.

The functions are meant for files from other people, which may be anything: a pipe that never ends a
read, a device without an end, or a file of any size.

Below the path of a pattern, TensorFlow finds no SavedModel, or another one in its place.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shlex
import stat
import sys
from pathlib import Path
from typing import BinaryIO, Final

from imgpipe.models.errors import ConfigError

_CHUNK = 1 << 20  # bytes read at once while hashing
_PATTERN: Final = re.compile(r"[*?[\\]")
#: What is replaced in the name of a folder that is renamed.
_UNUSUAL: Final = re.compile(r"[^\w.-]+")


def open_regular(file: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        OSError: The file does not exist, cannot be read, or is a folder, pipe, socket or device.
    """
    try:
        # O_NONBLOCK, because `open` would wait for the writer of a pipe.
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


def read_bytes(file: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes.

    Raises:
        OSError: The file is larger, cannot be read, or is not a regular file.
    """
    with open_regular(file) as stream:
        size = os.fstat(stream.fileno()).st_size
        _check_size(size, limit)
        parts = [stream.read(size + 1)]  # `read` allocates as many bytes as it is asked for
        size = len(parts[0])
        while parts[-1]:  # the file grows, or it is in /proc, where files have the size 0
            parts.append(stream.read(_CHUNK))
            size += len(parts[-1])
            _check_size(size, limit)
        # A regular file of unchanged size is in the first part, and joining would copy it.
        return b"".join(parts) if parts[1:-1] else parts[0]


def sha256(file: Path, limit: int = sys.maxsize) -> str:
    """Return the SHA-256 (hex) of a regular file; see `read_bytes`."""
    digest = hashlib.sha256()
    size = 0
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


def local_path(given: str, reader: str) -> Path:
    """Return a path, unless it is an address.

    Python would take `gs://bucket/x` for the folder `gs:/bucket/x` below the current folder.

    Args:
        given: Path, such as the URI of an artifact.
        reader: What uses the path, for the message.

    Raises:
        ConfigError: It is an address, such as `gs://bucket/x`.
    """
    if "://" in given:
        raise ConfigError(
            f"{reader}: expected a local folder. Received: {given!r}. Mount the bucket and name "
            "its folder."
        )
    return Path(given)


def pattern_in(path: Path) -> str:
    """Return why a path cannot be used and how the folder is renamed; "" for a plain path.

    Args:
        path: An absolute path.

    Examples:
        >>> pattern_in(Path("/data/model 1"))
        ''
    """
    if not _PATTERN.search(str(path)):
        return ""
    message = (
        "expected a path without *, ?, [ and \\, which Beam and TensorFlow take for patterns of "
        f"other folders. Received: {path}"
    )
    named = next(part for part in reversed([path, *path.parents]) if _PATTERN.search(part.name))
    if not named.exists():
        return message
    name = _UNUSUAL.sub("-", named.name).strip("-") or "renamed"
    return f"{message}. Rename it: {shlex.join(['mv', str(named), str(named.with_name(name))])}"
