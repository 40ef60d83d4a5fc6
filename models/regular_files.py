"""Regular files opened and read within bounds: no pipes that hang, no devices without an end.

It is for files that somebody else made, which may be anything.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO

_CHUNK = 1 << 20  # bytes read at once while hashing


def open_regular(file: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
      OSError: The file does not exist, cannot be read, or is a folder, pipe, socket or device.
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


def read_bytes(file: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes; OSError when it is no such file."""
    with open_regular(file) as stream:
        size = os.fstat(stream.fileno()).st_size
        _check_size(size, limit)
        parts = [stream.read(size + 1)]  # allocates what it is asked for
        size = len(parts[0])
        while parts[-1]:  # a file that grows, or one of /proc, which says that it has no bytes
            parts.append(stream.read(_CHUNK))
            size += len(parts[-1])
            _check_size(size, limit)
        return b"".join(parts) if parts[1:-1] else parts[0]


def sha256(file: Path, limit: int) -> str:
    """Hex SHA-256 of what `read_bytes` gives, with a small part in memory at a time.

    Raises:
      OSError: as `read_bytes`.
    """
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
