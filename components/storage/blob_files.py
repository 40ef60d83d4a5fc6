"""A content-addressed store in one file for each value, for several hosts that share a folder.

SQLite's locks and shared memory do not work between hosts (https://www.sqlite.org/wal.html), so
workers on a cluster cannot share a `BlobStore`. Here a value is written under a name of its own and
renamed, which network file systems do atomically. Two workers that store the same key write the
same value, so it does not matter who is last. The price is one small file for each value.
"""

from __future__ import annotations

import contextlib
import os
import uuid
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from imgpipe.models.errors import ResourceError
from imgpipe.models.files.atomic_write import TEMPORARY

_CHECKSUM = 4  # bytes of the checksum in front of each value
_EACH = 16  # of the 256 folders, each sixteenth is looked at to estimate the size of the store


class BlobFiles:
    """Values by key in ``<directory>/<name>/<first byte of the key>/<key>``.

    It has the methods of `BlobStore`. Like that, it is a cache: a file that is missing, cut off or
    damaged only means that the value is computed again, so nothing is forced to disk.

    Args:
        directory: Folder that all hosts see under this path.
        name: Name of the folder in it.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._folder = directory / name

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """See `BlobStore.get`."""
        found: dict[bytes, bytes] = {}
        for key in keys:
            with contextlib.suppress(OSError):
                if (value := checked(self._file(key).read_bytes())) is not None:
                    found[key] = value
        return found

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Store `values` by key.

        Nothing is forced to disk: a value that a power failure damages does not fit its checksum,
        and is computed again.

        Raises:
            ResourceError: A file cannot be written.
        """
        for key, value in values.items():
            file = self._file(key)
            beside = file.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                beside.write_bytes(with_checksum(value))
                beside.replace(file)
            except OSError as error:
                with contextlib.suppress(OSError):
                    beside.unlink(missing_ok=True)
                raise ResourceError(
                    f"the store {self._folder} cannot be written: {error.strerror}. Free disk "
                    "space, or name another folder that all hosts can write to (bank.store, "
                    "judge.store)."
                ) from error

    def stored_bytes(self) -> int:
        """Estimate how much the values take. Keys are hashes, so all folders are about as large."""
        found = 0
        for number in range(0, 256, _EACH):
            with contextlib.suppress(OSError), os.scandir(self._folder / f"{number:02x}") as files:
                found += sum(file.stat().st_size for file in files)
        return _EACH * found

    def close(self) -> None:
        """Do nothing; no file is open."""

    def _file(self, key: bytes) -> Path:
        text = key.hex()
        return self._folder / text[:2] / text


def with_checksum(value: bytes) -> bytes:
    """Return a value with its checksum in front, as it is stored."""
    return zlib.crc32(value).to_bytes(_CHECKSUM, "little") + value


def checked(data: bytes) -> bytes | None:
    """Return the value in what `with_checksum` returned; None if it is damaged."""
    value = data[_CHECKSUM:]
    return value if with_checksum(value) == data else None
