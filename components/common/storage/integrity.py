"""Stored files whose damage is noticed: artifacts that have a seal, and values with a checksum.

TFX trusts an artifact as long as its folder exists, even when a shard lost half of its records or
a file has flipped bytes. The seal describes every file. It is stored beside the folder and not in
it, because some of TFX's components accept only a folder with a single file. The manifests of
published versions hold such descriptions, too. This module imports neither TFX nor TensorFlow,
because the command line reads versions before heavy imports.

A `BlobStore` is a cache that several hosts may share, with a file for each value: one that is
missing, cut off or damaged only means that its value is computed again, so nothing is forced to
disk. A value is written under a name of its own and renamed, which network file systems do
atomically too. Two workers that store the same key write the same value, so it does not matter who
is last. A table in SQLite was half as fast (20,000 values of 2.5 kB: 4.1 s to write and 1.3 s to
read, against 2.6 s and 0.6 s), and its locks do not work between hosts.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from imgpipe.models.errors import ResourceError
from imgpipe.models.files import json_object
from imgpipe.models.files.atomic_write import TEMPORARY, sync_tree
from imgpipe.models.files.described_files import describe, difference, files_below
from imgpipe.models.files.regular_files import local_path

_SCHEMA = 1  # of a seal
#: What `damage` says of an artifact that was emptied, for those who would read all of it.
EMPTIED = "its large files were removed to save space"

_CHECKSUM = 4  # bytes of the checksum in front of each value


def seal_file(folder: Path) -> Path:
    """Path of the file that holds the seal of the artifact in `folder`."""
    return folder.with_name(f".seal-{folder.name}.json")


def seal(folder: Path, emptied: bool = False) -> None:
    """Sync an artifact to disk and write its seal.

    Args:
        folder: Folder of the artifact, completely written.
        emptied: Whether its sub-folders are about to be removed; see `empty`.

    Raises:
        OSError: The disk is full or fails.
    """
    sync_tree(folder)
    files = {name: path for name, path in _files(folder).items() if not (emptied and "/" in name)}
    content = {"schema": _SCHEMA, "files": describe(files), "emptied": emptied}
    json_object.write(seal_file(folder), content)


def empty(folder: Path) -> None:
    """Remove the sub-folders of an artifact, which hold what is large.

    TFX still takes it from the cache, and so what was made from it. A component that has to read it
    has it made again.
    """
    seal(folder, emptied=True)
    for child in filter(Path.is_dir, folder.iterdir()):
        shutil.rmtree(child, ignore_errors=True)


def remove(folder: Path) -> None:
    """Remove the damaged artifact in `folder` and its seal, so that its component runs again."""
    shutil.rmtree(folder, ignore_errors=True)
    seal_file(folder).unlink(missing_ok=True)


def damage(folder: Path, *, complete: bool) -> str:
    """Compare an artifact with its seal; see `difference`.

    Args:
        folder: Folder of the artifact.
        complete: Whether to read every file, for which an emptied artifact is not enough.

    Returns:
        What is wrong, as a sentence without its full stop; "" when the artifact is intact.
    """
    try:
        sealed = json_object.read(seal_file(folder))
        if complete and sealed.get("emptied"):
            return EMPTIED
        sealed = sealed["files"]
        written = seal_file(folder).stat().st_ctime_ns
        wrong = difference(folder, sealed, written, "all" if complete else "changed")
        if wrong:
            return wrong
        added = sorted(_files(folder).keys() - sealed.keys())
    except FileNotFoundError:
        return "it has no seal, because the component that wrote it did not finish"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"it cannot be compared with its seal ({type(error).__name__}: {error})"
    return f"{added[0]} was added after its component finished" if added else ""


def _files(folder: Path) -> dict[str, Path]:
    """Every file below `folder` that is not hidden, by its relative path."""
    return {
        name: path
        for name, path in files_below(folder).items()
        if not any(part.startswith(".") for part in Path(name).parts)
    }


class BlobStore:
    """Values by key in `<directory>/<name>/<first byte of the key>/<key>`.

    It is safe for several threads, processes and hosts.

    Args:
        directory: Folder that all of them see under this path. It is created when absent.
        name: Name of the folder in it.

    Raises:
        ConfigError: The folder is in a bucket.
    """

    def __init__(self, directory: str | Path, name: str) -> None:
        self._folder = local_path(str(directory), "the store of results") / name

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Look values up.

        Args:
            keys: Keys of 32 bytes, as many as wanted.

        Returns:
            The values of those keys that are stored and intact.
        """
        intact: dict[bytes, bytes] = {}
        for key in keys:
            with contextlib.suppress(OSError):
                data = self._file(key).read_bytes()
                if _with_checksum(data[_CHECKSUM:]) == data:
                    intact[key] = data[_CHECKSUM:]
        return intact

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Store `values` by key.

        Raises:
            ResourceError: A file cannot be written.
        """
        for key, value in values.items():
            file = self._file(key)
            beside = file.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
            try:
                # Small copies and features of images may be private.
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                file.parent.mkdir(exist_ok=True)
                beside.write_bytes(_with_checksum(value))
                beside.replace(file)
            except OSError as error:
                with contextlib.suppress(OSError):
                    beside.unlink(missing_ok=True)
                raise ResourceError(
                    f"the store {self._folder} cannot be written: {error.strerror}. Free disk "
                    "space, change its permissions, or name another folder (bank.store, "
                    "judge.store)."
                ) from error

    def _file(self, key: bytes) -> Path:
        text = key.hex()
        return self._folder / text[:2] / text


def _with_checksum(value: bytes) -> bytes:
    return zlib.crc32(value).to_bytes(_CHECKSUM, "little") + value
