"""Files that other people made, opened and read within bounds.

A file of a data source may be a pipe that never answers, a device that never ends, a sparse file
of terabytes or a link to a file that is nobody else's business. All of these are refused here with
an `OSError` that names the reason, so that every source treats them alike.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, AnyStr

from imgpipe.components.example_gen.sources.layout import is_hidden
from imgpipe.models import regular_files
from imgpipe.models.errors import ConfigError

#: Bytes of a file that are read at all: films lie among photographs, and no photograph is so large.
BYTE_LIMIT = 1 << 28


def read_bytes(file: Path) -> bytes:
    """The content of one image file; OSError when it cannot be read or is over `BYTE_LIMIT`."""
    return regular_files.read_bytes(file, BYTE_LIMIT)


def sha256(file: Path) -> str:
    """Hex SHA-256 of what `read_bytes` gives, without holding it in memory."""
    return regular_files.sha256(file, BYTE_LIMIT)


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
            regular_files.open_regular(file).close()
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
