"""The version folders below a base path, and whether each of them is complete.

TensorFlow Serving loads any directory that is named by a number at once, even if it is only copied
in part (https://github.com/tensorflow/serving/issues/1086). Here a version is loaded only when it
is complete: it has all files of its manifest, which the ModelPusher of imgpipe writes, or without a
manifest a graph, and no file that has just changed. Directories of other names (`.tmp-…`) are
ignored.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from imgpipe.models.files.described_files import MANIFEST, SAVED_MODEL, version_damage
from imgpipe.serving.server.status import Code, StatusError

IMAGE_INPUT = "image_bytes"
"""Name of the input, and of the feature, for encoded images in the models of imgpipe."""
# As in TensorFlow Serving, a version is any int64, which has at most 19 digits. \d would also match
# the digits of other scripts.
_VERSION = re.compile(r"-?[0-9]{1,19}")
_INT64 = range(-(1 << 63), 1 << 63)


@dataclass(frozen=True)
class Files:
    """The files of one version as they were at one look."""

    fingerprint: tuple[tuple[str, int, int], ...]
    """Name, size in bytes and time of change in ns of every file, by which a repaired version is
    distinguished from a broken one."""
    missing: str
    """The reason why the version cannot be loaded yet; empty when it is complete."""

    @property
    def vouched_for(self) -> bool:
        """Whether the version has a manifest."""
        return any(name == MANIFEST for name, _, _ in self.fingerprint)


def versions(base_path: Path) -> dict[int, Path]:
    """Return the folders of the versions below a base path, by number.

    A base path that is itself a model is the only version; without a number as its name it is
    version 0, since versions begin with 1. Of two names with the same number (`1` and `001`) the
    last in sorted order is used, as in TensorFlow Serving. This must be cheap, as every poll calls
    it. OSError means that the base path does not exist or cannot be read.
    """
    if (base_path / SAVED_MODEL).is_file():
        return {_number(base_path.name) or 0: base_path}
    with os.scandir(base_path) as entries:
        names = sorted(entry.name for entry in entries if _may_be_directory(entry))
    numbers = {name: _number(name) for name in names}
    return {n: base_path / name for name, n in numbers.items() if n is not None}


def _number(name: str) -> int | None:
    """Return the number of a version; None for a folder of another name."""
    if _VERSION.fullmatch(name) is None:
        return None
    return int(name) if int(name) in _INT64 else None


def _may_be_directory(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a directory, or cannot be read now and may be one.

    One unreadable entry, such as a link to itself, must not hide the other versions. A loaded
    version stays while its directory cannot be read.
    """
    try:
        return entry.is_dir()
    except OSError:
        return True


def look(path: Path) -> Files | None:
    """Return the files of a version; None if it is being removed.

    Only sizes are compared with a manifest, as every poll looks. `verify` compares the digests
    when the version is loaded. A folder without a model may be anything, such as a class of a data
    set, so only its own time of change is taken.
    """
    files = []
    others: list[str] = []
    try:
        if not any((path / f"{SAVED_MODEL}{form}").is_file() for form in ("", "txt")):
            changed = path.stat().st_mtime_ns
            return Files((("", 0, changed),), f"{SAVED_MODEL} is not there")
        for file in sorted(path.rglob("*")):
            name = file.relative_to(path).as_posix()
            if file.is_file():
                stat = file.stat()
                files.append((name, stat.st_size, stat.st_mtime_ns))
            elif file.exists() and not file.is_dir():
                others.append(f"{name} is not a file")  # to read a named pipe takes for ever
    except OSError:
        return None
    names = {name for name, _, _ in files}
    if others:
        return Files(tuple(files), others[0])
    missing = version_damage(path, "none") if MANIFEST in names else ""
    return Files(tuple(files), missing)


def verify(path: Path) -> None:
    """Compare every file with the manifest's SHA-256, where there is a manifest.

    TensorFlow does not detect all damage: it loads some SavedModels that were altered, and runs
    them with altered values; see docs/benchmarks.md, "Constants of the code". A file that is not
    the one that was published is a StatusError, DATA_LOSS.
    """
    if not (path / MANIFEST).exists():
        return
    damage = version_damage(path, "all")
    if damage:
        raise StatusError(
            Code.DATA_LOSS,
            f"{path} is not the version that was published: {damage}. Publish the model again.",
        )
