"""Files for `tarfile` and `zipfile` that refuse to read very long headers or tables."""

from __future__ import annotations

import os
from typing import IO

from imgpipe.components.example_gen.sources.seekable_gzip import Damaged, SeekableGzip

_HEADER_LIMIT = 16 << 20  # bytes that a tar header, such as a long name, may have


class LimitedReader:
    """A file that gives no more than a limit at once.

    Args:
        file: The file to read.
        limit: Largest number of bytes of a header or table.
    """

    def __init__(self, file: IO[bytes], limit: int = _HEADER_LIMIT) -> None:
        self._file, self._limit = file, limit

    def read(self, size: int = -1) -> bytes:
        """Read bytes.

        Raises:
            Damaged: More bytes than the limit are asked for.
        """
        if size > self._limit:
            raise Damaged(f"the archive has a header of {size:,} bytes")
        return self._file.read(size if size >= 0 else self._limit)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move as the file does."""
        return self._file.seek(offset, whence)

    def seekable(self) -> bool:
        """Return True, which `zipfile` asks for."""
        return True

    def tell(self) -> int:
        """Return the position in the file."""
        return self._file.tell()


class UnpackedReader(LimitedReader):
    """A file of the unpacked data of a gzip stream, with the same checks.

    Positions are counted in unpacked bytes, and seeking unpacks nothing.
    """

    def __init__(self, stream: SeekableGzip) -> None:
        self._stream, self._at = stream, 0

    def read(self, size: int = -1) -> bytes:
        """Read unpacked bytes.

        Raises:
            Damaged: More bytes than the limit are asked for, or the stream is damaged.
        """
        if not 0 <= size <= _HEADER_LIMIT:
            raise Damaged(f"the archive has a header of {size:,} bytes")
        data = self._stream.pread(size, self._at)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an unpacked byte, counted from the start, which is all that `tarfile` needs."""
        self._at = offset
        return offset

    def tell(self) -> int:
        """Return the position in the unpacked data."""
        return self._at
