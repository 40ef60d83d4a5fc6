"""Digests of files: descriptions of folders, and what differs from them.

Seals of artifacts and manifests of published versions are such descriptions. This module imports
neither TFX nor TensorFlow, because the command line reads versions before heavy imports.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Size and SHA-256 of each file, by its path below the folder.
Files = Mapping[str, Mapping[str, Any]]


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_below(folder: Path) -> dict[str, Path]:
    """Every file below a folder, sorted, by its relative path."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def describe(paths: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Describe files, given by name.

    Returns:
        ``{name: {"sha256": hex, "bytes": int}}``
    """
    return {
        name: {"sha256": sha256(path), "bytes": path.stat().st_size} for name, path in paths.items()
    }


def difference(folder: Path, files: Files, described: int, *, complete: bool) -> str:
    """Compare the files of a folder with their description.

    Args:
        folder: The folder.
        files: Description of its files.
        described: Time of the description in nanoseconds. Only files that were changed later are
            read; programs cannot set the time of a change (ctime), as `cp -p` and others set that
            of a modification.
        complete: Whether to read every file instead.

    Returns:
        The first difference, as a sentence without its full stop; "" if there is none.

    Raises:
        OSError: A file cannot be read.
        ValueError, KeyError, TypeError, AttributeError: The description is damaged.
    """
    try:
        for name, facts in files.items():
            if Path(name).is_absolute() or ".." in Path(name).parts:
                return f"{name!r} leads out of the folder"
            if not isinstance(facts["sha256"], str):
                return f"there is no digest of {name}"
            stat = (folder / name).stat()
            if stat.st_size != facts["bytes"]:
                return f"{name} has {stat.st_size} bytes, expected {facts['bytes']}"
            changed = complete or stat.st_ctime_ns > described
            if changed and sha256(folder / name) != facts["sha256"]:
                return f"{name} has changed since it was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).relative_to(folder)} is missing"
    except PermissionError as error:
        return f"this user may not read {Path(error.filename).relative_to(folder)}"
    return ""
