"""Base paths on an object store, from which versions are copied to this machine to load them.

They are read with TensorFlow's file systems, so every scheme that TensorFlow supports (``gs://``)
works here. The copies are kept in a cache, are checked against the manifest when they are loaded,
and are used again after a restart.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from imgpipe.serving.server import storage
from imgpipe.serving.server.errors import BadArgument
from imgpipe.serving.server.status import Code, StatusError
from imgpipe.serving.server.storage import MANIFEST, Fingerprint, VersionDirectory

_DIGEST = 16
"""Number of characters of a SHA-256 in the name of a folder, enough to distinguish versions."""
_TEMPORARY = ".tmp-"
_LOCK = ".lock"


@dataclass(frozen=True)
class RemotePath:
    """A base path with a scheme, such as ``gs://bucket/models/flowers``."""

    uri: str

    def __str__(self) -> str:
        return self.uri

    @property
    def scheme(self) -> str:
        """The scheme, such as ``gs`` for ``gs://…``."""
        return self.uri.partition("://")[0]


BasePath = Path | RemotePath


def base_path_of(text: str) -> BasePath:
    """Parse a path on this machine (``/models/a``, ``file:///models/a``) or a remote path."""
    if "://" in text and not text.startswith("file://"):
        return RemotePath(text.rstrip("/"))
    return Path(text.removeprefix("file://"))


def check_readable(path: RemotePath) -> None:
    """Refuse a path whose scheme TensorFlow cannot read.

    Raises:
        BadArgument: The scheme is not supported; the message lists the supported schemes.
    """
    import tensorflow as tf

    known = sorted(name for name in tf.io.gfile.get_registered_schemes() if name)
    if path.scheme not in known:
        raise BadArgument(
            f"The base path {path} cannot be read: TensorFlow on this machine has no file system "
            f"for {path.scheme}://. Expected a directory, or a path that begins with "
            f"{', '.join(f'{name}://' for name in known)}. Mount the bucket, or copy the versions "
            "to a directory."
        )


def _cache() -> Path:
    """Return ``~/.cache/imgpipe/served``, or the same folder below XDG_CACHE_HOME."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "imgpipe" / "served"


@contextmanager
def _os_errors() -> Iterator[None]:
    """Raise errors of TensorFlow as OSError, as a local file system would."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(error.error_code, error.message) from error


class RemoteStore:
    """Version directories under a remote base path."""

    def __init__(self, base_path: RemotePath, *, tflite: bool = False) -> None:
        """With ``tflite``, a version that contains ``model.tflite`` needs no SavedModel."""
        import tensorflow as tf

        self._files: Any = tf.io.gfile
        self._uri, self._tflite = base_path.uri, tflite
        name = f"{self._uri.rpartition('/')[2]}-{_digest(self._uri.encode())}"
        self._cache = _cache() / name

    def names(self) -> dict[int, str]:
        """Return the version directories by number; see ``storage.numbered``.

        Raises:
            OSError: The base path does not exist or cannot be read.
        """
        with _os_errors():
            # TensorFlow's object stores list folders with a slash at the end.
            return storage.numbered(name.rstrip("/") for name in self._files.listdir(self._uri))

    def inspect(self, version: int, name: str) -> VersionDirectory | None:
        """See ``VersionStore.inspect``."""
        root = f"{self._uri}/{name}"
        try:
            with _os_errors():
                if not self._files.isdir(root):
                    return None
                files = tuple(self._listed(root))
                has_manifest = any(name == MANIFEST for name, _, _ in files)
                manifest = self._read(f"{root}/{MANIFEST}") if has_manifest else None
        except OSError:
            return None
        target = self._cache / f"{version}-{_digest(repr(files).encode())}"
        missing = storage.missing(files, manifest, tflite=self._tflite)
        fetch = functools.partial(self._fetch, root, files, target)
        return VersionDirectory(version, target, missing, files, fetch)

    def _listed(self, root: str) -> Iterator[tuple[str, int, int]]:
        for folder, _, names in self._files.walk(root):
            for name in sorted(names):
                uri = f"{str(folder).rstrip('/')}/{name}"
                status = self._files.stat(uri)
                yield uri.removeprefix(root).lstrip("/"), status.length, status.mtime_nsec

    def _read(self, uri: str) -> bytes:
        with self._files.GFile(uri, "rb") as file:
            return bytes(file.read())

    def _fetch(self, root: str, files: Fingerprint, target: Path) -> Path:
        """Copy a version into the cache unless a complete copy exists; return its folder.

        Raises:
            StatusError: The version cannot be read, or a file does not have the listed size.
        """
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
            # Another model, or another server of this user, may copy from the same base path.
            with filelock.FileLock(self._cache / _LOCK):
                return self._copied(root, files, target)
        except OSError as error:
            raise StatusError(
                Code.UNAVAILABLE,
                f"{root} could not be copied to {self._cache} ({error.strerror or error}). Check "
                "the access to it and the free space on the disk.",
            ) from error

    def _copied(self, root: str, files: Fingerprint, target: Path) -> Path:
        """Copy a version into the cache while its lock is held; see `_fetch`."""
        for leftover in self._cache.glob(f"{_TEMPORARY}*"):  # of processes that were killed
            shutil.rmtree(leftover, ignore_errors=True)
        if target.is_dir():
            try:
                storage.verify(target)
                return target
            except (StatusError, OSError):
                shutil.rmtree(target, ignore_errors=True)
        # Copied under another name first, so that an interrupted copy is never taken for a version.
        beside = self._cache / f"{_TEMPORARY}{uuid.uuid4().hex}"
        try:
            for name, size, _ in files:
                self._copy(f"{root}/{name}", beside, name, size)
            storage.verify(beside)
            self._drop_others(target)
            beside.replace(target)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return target

    def _copy(self, uri: str, into: Path, name: str, size: int) -> None:
        if storage.leads_out(name):
            raise StatusError(Code.DATA_LOSS, f"{uri} leads out of the directory of its version.")
        path = into / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with _os_errors():
            self._files.copy(uri, str(path))
        if path.stat().st_size != size:
            raise StatusError(
                Code.DATA_LOSS,
                f"{uri} has {path.stat().st_size} bytes after the copy, but {size} bytes were "
                "listed. It is still being written, or the transfer was interrupted.",
            )

    def _drop_others(self, target: Path) -> None:
        """Remove older copies of the same version, and copies of versions that no longer exist."""
        listed = self.names()
        version = target.name.rpartition("-")[0]
        for child in self._cache.iterdir():
            number = child.name.rpartition("-")[0]
            is_copy = storage.numbered([number]) and not child.name.startswith(_TEMPORARY)
            if is_copy and (number == version or int(number) not in listed):
                shutil.rmtree(child, ignore_errors=True)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGEST]


def store_of(base_path: BasePath, *, tflite: bool) -> storage.VersionStore:
    """Return the store of the versions under a base path."""
    if isinstance(base_path, RemotePath):
        return RemoteStore(base_path, tflite=tflite)
    return storage.LocalStore(base_path, tflite=tflite)
