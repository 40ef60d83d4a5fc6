"""Seals, which tell whether the files of an artifact are still those that its component wrote.

TFX trusts an artifact as long as its folder exists, even when a shard lost half of its records or
a file has flipped bytes. The seal lists every file with its size and its SHA-256. It is stored
beside the folder and not in it, because some of TFX's components accept only a folder with a single
file.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from imgpipe.components.storage.manifest import sha256
from imgpipe.models.files import json_object
from imgpipe.models.files.atomic_write import atomic_write, sync_tree

_SCHEMA = 1


def seal_file(folder: Path) -> Path:
    """Path of the file that holds the seal of the artifact in `folder`."""
    return folder.with_name(f".seal-{folder.name}.json")


def seal(folder: Path) -> None:
    """Sync an artifact to disk and write its seal.

    Args:
        folder: Folder of the artifact, completely written.

    Raises:
        OSError: The disk is full or fails.
    """
    sync_tree(folder)
    files = {name: _describe(path) for name, path in _files(folder).items()}
    text = json.dumps({"schema": _SCHEMA, "files": files}, indent=1, sort_keys=True)
    atomic_write(seal_file(folder), text)


def remove(folder: Path) -> None:
    """Remove the damaged artifact in `folder` and its seal, so that its component runs again."""
    shutil.rmtree(folder, ignore_errors=True)
    seal_file(folder).unlink(missing_ok=True)


def damage(folder: Path, *, complete: bool) -> str:
    """Compare an artifact with its seal.

    Args:
        folder: Folder of the artifact.
        complete: Whether to read every file and compare its digest. If False, only files whose
            modification time has changed since they were sealed are read.

    Returns:
        What is wrong, as a sentence without its full stop; "" when the artifact is intact.
    """
    try:
        sealed: dict[str, dict[str, Any]] = json_object.read(seal_file(folder))["files"]
        found = _files(folder)
        for name, facts in sealed.items():
            if name not in found:
                return f"{name} is missing"
            if wrong := _difference(found[name], facts, complete):
                return f"{name} {wrong}"
    except FileNotFoundError:
        return "it has no seal, because the component that wrote it did not finish"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"it cannot be compared with its seal ({type(error).__name__}: {error})"
    added = sorted(found.keys() - sealed.keys())
    return f"{added[0]} was added after its component finished" if added else ""


def _files(folder: Path) -> dict[str, Path]:
    """Every file below `folder` that is not hidden, by its relative path."""
    paths = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        relative.as_posix(): path
        for relative, path in paths.items()
        if not any(part.startswith(".") for part in relative.parts)
    }


def _describe(path: Path) -> dict[str, Any]:
    stat = path.stat()
    return {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": sha256(path)}


def _difference(path: Path, facts: dict[str, Any], complete: bool) -> str:
    stat = path.stat()
    if stat.st_size != facts["bytes"]:
        return f"has {stat.st_size} bytes; expected {facts['bytes']}"
    if not complete and stat.st_mtime_ns == facts["mtime_ns"]:
        return ""
    return "" if sha256(path) == facts["sha256"] else "has changed since it was written"
