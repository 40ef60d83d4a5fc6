"""The seals of artifacts: descriptions of their files, by which damage is noticed.

TFX trusts an artifact as long as its folder exists, even when a shard lost half of its records or
a file has flipped bytes. The seal describes every file. It is stored beside the folder and not in
it, because some of TFX's components accept only a folder with a single file. The manifests of
published versions hold such descriptions, too. This module imports neither TFX nor TensorFlow,
because the command line reads versions before heavy imports.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from imgpipe.models.files import json_object
from imgpipe.models.files.atomic_write import sync_tree
from imgpipe.models.files.described_files import describe, difference, files_below

_SCHEMA = 1  # of a seal
#: What `damage` says of an artifact that was emptied, for those who would read all of it.
EMPTIED = "its large files were removed to save space"


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
