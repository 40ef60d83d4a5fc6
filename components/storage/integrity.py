"""Seals, which tell whether the files of an artifact are still those that its component wrote.

TFX trusts an artifact as long as its folder exists, even when a shard lost half of its records or
a file has flipped bytes. The seal describes every file. It is stored beside the folder and not in
it, because some of TFX's components accept only a folder with a single file.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from imgpipe.components.storage import digests
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
    content = {"schema": _SCHEMA, "files": digests.describe(_files(folder))}
    atomic_write(seal_file(folder), json.dumps(content, indent=1, sort_keys=True))


def remove(folder: Path) -> None:
    """Remove the damaged artifact in `folder` and its seal, so that its component runs again."""
    shutil.rmtree(folder, ignore_errors=True)
    seal_file(folder).unlink(missing_ok=True)


def damage(folder: Path, *, complete: bool) -> str:
    """Compare an artifact with its seal; see `digests.difference`.

    Args:
        folder: Folder of the artifact.
        complete: Whether to read every file.

    Returns:
        What is wrong, as a sentence without its full stop; "" when the artifact is intact.
    """
    try:
        sealed = json_object.read(seal_file(folder))["files"]
        written = seal_file(folder).stat().st_ctime_ns
        if wrong := digests.difference(folder, sealed, written, complete=complete):
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
        for name, path in digests.files_below(folder).items()
        if not any(part.startswith(".") for part in Path(name).parts)
    }
