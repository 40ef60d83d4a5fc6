"""Publishing a version directory so that no reader ever sees half of one.

Written beside, synced, renamed: a polling server sees a version whole or not at all, whatever
kills the writer. Numbers only grow, also over deleted versions. The Pusher and ``imgpipe
rollback`` share this; neither TFX nor TensorFlow is needed.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components import manifest
from models.errors import ResourceError

_TEMPORARY = ".tmp-"  # not an integer: invisible to every TensorFlow Serving
_LAST = ".last-version"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(sources: Mapping[str, Path], target: Path) -> None:
    """Copy each source tree to its place below `target` and force everything to disk."""
    for place, source in sources.items():
        shutil.copytree(
            source,
            target / place,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns(manifest.MANIFEST),
        )
    for folder, _, files in os.walk(target):
        for name in files:
            _sync(Path(folder) / name)
        _sync(Path(folder))


def next_number(base: Path) -> int:
    """One more than any version that is or was there."""
    try:
        last = int((base / _LAST).read_text())
    except (OSError, ValueError):
        last = 0
    return max([last, *manifest.version_numbers(base)]) + 1


def publish(base: Path, sources: Mapping[str, Path], facts: Mapping[str, Any]) -> manifest.Version:
    """Publish a new version.

    Args:
      base: serving base path; created when absent.
      sources: trees to copy, by place below the version directory ("" for its root).
      facts: what the manifest says beside number and files.

    Returns:
      The version as a reader finds it.

    Raises:
      ResourceError: the disk is full or the directory cannot be written; nothing is left behind
        and what was served before is untouched.
    """
    staging = base / f"{_TEMPORARY}{uuid.uuid4().hex}"
    try:
        base.mkdir(parents=True, exist_ok=True)
        remove_leftovers(base)
        staging.mkdir()
        _copy(sources, staging)
        number = next_number(base)
        described = {
            "schema": 1,
            "version": number,
            **facts,
            "files": manifest.describe(staging),
        }
        _write_synced(staging / manifest.MANIFEST, json.dumps(described, indent=1, sort_keys=True))
        _sync(staging)
        _write_synced(base / f"{_TEMPORARY}last", str(number))
        (base / f"{_TEMPORARY}last").replace(base / _LAST)
        staging.rename(base / str(number))
        _sync(base)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        why = "the disk is full" if error.errno == errno.ENOSPC else str(error.strerror or error)
        raise ResourceError(
            f"could not publish a version in {base}: {why}. Nothing was changed there; free space "
            "or choose another push.directory and run again."
        ) from error
    return manifest.Version(number, base / str(number), described)


def _write_synced(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def remove_leftovers(base: Path) -> None:
    """Remove what a killed publisher left; the caller holds the run's lock."""
    for path in base.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def remove_old(base: Path, keep: int) -> list[int]:
    """Remove all but the newest `keep` versions; each vanishes at once, by a rename."""
    removed = manifest.version_numbers(base)[:-keep]
    for number in removed:
        hidden = base / f"{_TEMPORARY}old-{number}"
        (base / str(number)).rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)
    return removed
