"""Publishing a version directory so that no reader ever sees half of one.

Written beside, synced, renamed: a polling server sees a version whole or not at all, whatever
kills the writer. Numbers only grow, also over deleted versions. Publishers of one folder take
turns. The Pusher and ``imgpipe rollback`` share this; neither TFX nor TensorFlow is needed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock

from imgpipe.components.model_pusher import manifest
from imgpipe.models.atomic_write import TEMPORARY, atomic_write, sync, sync_tree
from imgpipe.models.errors import ResourceError

_log = logging.getLogger(__name__)
_LAST = ".last-version"
_LOCK = ".lock"
_LOCK_SECONDS = 120.0  # another publisher needs a second or two
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def _copy(sources: Mapping[str, Path], target: Path) -> None:
    """Copy each source tree to its place below `target` and force everything to disk."""
    for place, source in sources.items():
        shutil.copytree(
            source,
            target / place,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns(manifest.MANIFEST),
        )
    sync_tree(target)


def next_number(base: Path) -> int:
    """One more than any version that is or was there."""
    try:
        last = int((base / _LAST).read_text())
    except (OSError, ValueError):
        last = 0
    return max([last, *manifest.version_numbers(base)]) + 1


@contextlib.contextmanager
def turn(base: Path) -> Iterator[None]:
    """Be the only publisher in `base`; freed by the system if the process dies.

    Raises:
      ResourceError: the folder cannot be written, or another publisher does not finish.
    """
    try:
        base.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(base / _LOCK)
        lock.acquire(timeout=_LOCK_SECONDS)
    except filelock.Timeout:
        raise ResourceError(
            f"another publisher has been working in {base} for {_LOCK_SECONDS:.0f} s. "
            "Wait for it and run again."
        ) from None
    except OSError as error:
        raise _failed(base, error) from error
    with lock:
        yield


def publish(
    base: Path,
    sources: Mapping[str, Path],
    facts: Mapping[str, Any],
    keep: int | None = None,
    unless: Callable[[manifest.Version | None], bool] = lambda newest: False,
    expected: Mapping[str, Mapping[str, Any]] | None = None,
) -> manifest.Version | None:
    """Publish a new version.

    Args:
      base: serving base path; created when absent.
      sources: trees to copy, by place below the version directory ("" for its root).
      facts: what the manifest says beside number and files.
      keep: how many versions stay, the oldest go; None keeps all.
      unless: asked, with the newest version, when it is our turn; True publishes nothing.
      expected: files that must be among the copied ones, as of `manifest.describe`; None for any.

    Returns:
      The version as a reader finds it; None when `unless` said so.

    Raises:
      ResourceError: the disk is full, the directory cannot be written, or a file is not the
        expected one; nothing is left behind and what was served before is untouched.
    """
    with turn(base):
        _remove_leftovers(base)
        if unless(manifest.latest(base)):
            return None
        version = _publish(base, sources, facts, expected or {})
        if keep is not None:
            _remove_old(base, keep)
        return version


def changed(source: Path, names: Sequence[str]) -> ResourceError:
    """The error for files that are not those that were validated."""
    return ResourceError(
        f"{', '.join(names[:3])} in {source} changed after the model was validated. Nothing was "
        "published. Run again; --from ImageTrainer makes the model anew."
    )


def _publish(
    base: Path,
    sources: Mapping[str, Path],
    facts: Mapping[str, Any],
    expected: Mapping[str, Mapping[str, Any]],
) -> manifest.Version:
    staging = base / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        staging.mkdir()
        _copy(sources, staging)
        number = next_number(base)
        files = manifest.describe(staging)
        if other := sorted(name for name in expected if files.get(name) != expected[name]):
            raise changed(base, other)
        described = {"schema": 1, "version": number, **facts, "files": files}
        text = json.dumps(described, indent=1, sort_keys=True)
        atomic_write(staging / manifest.MANIFEST, text)
        atomic_write(base / _LAST, str(number))
        _show(staging, base / str(number))
    except OSError as error:
        raise _failed(base, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)  # it has its number unless something failed
    return manifest.Version(number, base / str(number), described)


def _show(staging: Path, target: Path) -> None:
    """Give a finished version its number; servers may load it from now on."""
    staging.rename(target)
    try:
        sync(target.parent)
    except OSError as error:  # a power loss could take the number away; the next run pushes again
        _log.warning("could not force the name of %s to disk: %s", target, error)


def _failed(base: Path, error: OSError) -> ResourceError:
    return ResourceError(
        f"could not publish a version in {base}: {_why(error)}. Nothing was changed there; free "
        "space or choose another push.directory and run again."
    )


def _why(error: OSError) -> str:
    """What the system said; `shutil.Error` hides it in a list of (source, target, text)."""
    text = str(error.strerror or error)
    if isinstance(error, shutil.Error) and error.args and error.args[0]:
        text = str(error.args[0][0][-1])
    full = error.errno in _FULL or any(os.strerror(number) in text for number in _FULL)
    return f"the disk is full ({text})" if full else text


def _remove_leftovers(base: Path) -> None:
    """Remove what a killed publisher left; it is our turn, so nobody else's is there."""
    for path in base.glob(f"{TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def _remove_old(base: Path, keep: int) -> None:
    """Remove all but the newest `keep` versions; each vanishes at once, by a rename."""
    for number in manifest.version_numbers(base)[:-keep]:
        hidden = base / f"{TEMPORARY}old-{number}"
        try:
            (base / str(number)).rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)
        except OSError as error:  # what was published stays published
            _log.warning("could not remove version %d of %s: %s", number, base, error)
