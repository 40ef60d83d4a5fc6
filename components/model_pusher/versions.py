"""Versions: whether a model becomes one, and how it is published.

No server ever loads an incomplete version: it is written under a temporary name, synced and
renamed. A polling server therefore sees the complete version or none, even if the writer is killed.
Where folders cannot be renamed, as in a mounted bucket, the files are moved one by one, and those
without which no server loads a version come last. Numbers always increase, even after versions are
deleted, and a lock admits one publisher at a time. ModelPusher and `imgpipe rollback` use this
module, which imports neither TFX nor TensorFlow.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import filelock
from pydantic import Field
from typing_extensions import TypedDict

from imgpipe.components.common import images as tables
from imgpipe.components.common.storage import manifest
from imgpipe.components.image_evaluator.decision import Decision
from imgpipe.models.errors import ResourceError
from imgpipe.models.files import json_object
from imgpipe.models.files.atomic_write import (
    TEMPORARY,
    atomic_write,
    cannot_rename_folders,
    move_folder,
    sync,
    sync_tree,
)
from imgpipe.models.files.described_files import SAVED_MODEL

#: File with the outcome, in the artifact of ModelPusher.
PUSH_FILE = "push.json"
_log = logging.getLogger(__name__)
_LAST = ".last-version"
_LOCK = ".lock"
_LOCK_SECONDS = 120.0  # a publisher needs a second or two


def next_number(base: Path) -> int:
    """Return a free version number, higher than that of any version that exists or existed."""
    try:
        last = int((base / _LAST).read_text())
    except (OSError, ValueError):
        last = 0
    return max([last, *manifest.version_numbers(base)]) + 1


@contextlib.contextmanager
def exclusive(base: Path) -> Iterator[None]:
    """Within the block, be the only publisher in `base`; `publish` holds the same lock.

    The folder is created when absent. What a publisher left that was killed is removed first.

    What is decided by the versions that are there is decided in such a block, because another
    publisher may have changed them since. The operating system releases the lock if the process
    dies.

    Raises:
        ResourceError: The folder cannot be written, or another publisher does not finish.
    """
    try:
        base.mkdir(parents=True, exist_ok=True)
        # One lock for a path, which a thread that holds it may take again.
        lock = filelock.FileLock(base / _LOCK, is_singleton=True).acquire(timeout=_LOCK_SECONDS)
    except filelock.Timeout:
        raise ResourceError(
            f"another publisher has been working in {base} for {_LOCK_SECONDS:.0f} s. "
            "Wait for it and run again."
        ) from None
    except OSError as error:
        raise _failed(base, error) from error
    with lock:
        _remove_leftovers(base)
        yield


def publish(
    base: Path,
    sources: Mapping[str, Path],
    facts: Mapping[str, Any],
    keep: int | None = None,
    expected: Mapping[str, Mapping[str, Any]] | None = None,
    texts: Mapping[str, str] | None = None,
) -> manifest.Version:
    """Publish a new version.

    Args:
        base: Base path of the published versions, which is created when absent.
        sources: Folders to copy, by path below the version directory ("" for its root).
        facts: Fields of the manifest besides number and files.
        keep: Number of versions to keep; the oldest are removed. None keeps all.
        expected: Files that must be among the copied ones, as `manifest.describe` returns them.
            None skips the comparison.
        texts: Contents of further files, by path below the version directory.

    Raises:
        ResourceError: The disk is full, the directory cannot be written, or a file is not the
            expected one. Nothing is left behind, and existing versions are unchanged.
    """
    # On the same file system as its final place, because only there a rename is atomic.
    staging = base / f"{TEMPORARY}{uuid.uuid4().hex}"
    with exclusive(base):
        try:
            _stage(staging, sources, texts or {})
            # The copies are compared, because the originals may change while they are read.
            files = manifest.describe(staging)
            copied = {name: files.get(name) for name in expected or {}}  # without provenance
            if expected is not None and copied != expected:
                raise changed_files_error(base, copied, expected)
            number = next_number(base)
            guarded = {name: entry for name, entry in files.items() if manifest.is_guarded(name)}
            described = {"schema": manifest.LAYOUT, "version": number, **facts, "files": guarded}
            json_object.write(staging / manifest.MANIFEST, described)
            # Before the rename: if the process dies between, a number is skipped, never reused.
            atomic_write(base / _LAST, str(number))
            # With this name, servers may load the version from now on.
            move_folder(staging, base / str(number), last=(SAVED_MODEL, manifest.MANIFEST))
        except OSError as error:
            raise _failed(base, error) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)  # exists only if something failed
        try:
            sync(base)
        except OSError as error:  # a power loss may undo the rename; the next run publishes again
            _log.warning("could not sync the name of version %d of %s: %s", number, base, error)
        if keep is not None:
            _remove_old(base, keep)
    return manifest.Version(base / str(number), described)


def changed_files_error(
    source: Path, files: Mapping[str, Any], expected: Mapping[str, Any]
) -> ResourceError:
    """Create the error for files in `source` that changed after they were validated."""
    changed = sorted(n for n in {*files, *expected} if files.get(n) != expected.get(n))
    return ResourceError(
        f"{', '.join(changed[:3])} in {source} changed after the model was validated. Nothing was "
        "published. Run again; --from ImageTrainer trains the model again."
    )


def _stage(staging: Path, sources: Mapping[str, Path], texts: Mapping[str, str]) -> None:
    """Copy the files of a version into a new folder, and write its texts there."""
    staging.mkdir()
    skipped = shutil.ignore_patterns(manifest.MANIFEST)
    for path, source in sources.items():
        # Without the modes: Kubeflow's launcher lets everybody change the files that it copies.
        shutil.copytree(
            source,
            staging / path,
            ignore=skipped,
            copy_function=shutil.copyfile,
            dirs_exist_ok=True,
        )
    sync_tree(staging)
    for name, text in texts.items():
        atomic_write(staging / name, text)


def _failed(base: Path, error: OSError) -> ResourceError:
    # shutil keeps the errors of the system in (source, target, text) tuples.
    listed = isinstance(error, shutil.Error) and isinstance(error.args[0], list)
    why = error.args[0][0][-1] if listed else error
    return ResourceError(
        f"could not publish a version in {base}: {why}. Nothing was changed there; free space, "
        "or give this user the permission, and run again."
    )


def _remove_leftovers(base: Path) -> None:
    """Remove temporary files of killed publishers; the lock excludes running ones."""
    for path in base.glob(f"{TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def _remove_old(base: Path, keep: int) -> None:
    """Remove all but the newest `keep` versions."""
    for number in manifest.version_numbers(base)[:-keep]:
        try:
            _remove(base, number)
        except OSError as error:  # the new version stays published
            _log.warning("could not remove version %d of %s: %s", number, base, error)


def _remove(base: Path, number: int) -> None:
    """Remove a version by a rename, or its graph first where folders cannot be renamed."""
    version = base / str(number)
    hidden = base / f"{TEMPORARY}old-{number}"
    try:
        version.rename(hidden)
    except OSError as error:
        if not cannot_rename_folders(error):
            raise
        (version / SAVED_MODEL).unlink(missing_ok=True)
        hidden = version
    shutil.rmtree(hidden, ignore_errors=True)


class Push(TypedDict):
    """Whether the model was published, and where it is."""

    status: Annotated[
        Literal["pushed", "unchanged", "refused"],
        "`unchanged` if the newest version is the same model.",
    ]
    version: Annotated[
        Annotated[str, Field(pattern=r"^[0-9]{1,18}$")] | None,
        "Number of the version that holds the model, as text; null if there is none.",
    ]
    path: Annotated[str | None, "Folder of this version; null if there is none."]
    refused_by: Annotated[
        list[str],
        "Why it was not published: `model` or `serving` if a gate refused it, `rollback` if a "
        "rollback withdrew this model, `other_version` if it was compared with another version "
        "than the one to compare with now.",
    ]
    withdrawn: Annotated[
        str | None,
        "Number of a version that still holds the model which a rollback withdrew, as text; null "
        "if there is none.",
    ]


#: What a run without a published model says.
NOT_PUBLISHED: Push = {
    "status": "refused",
    "version": None,
    "path": None,
    "refused_by": [],
    "withdrawn": None,
}


@dataclass(frozen=True)
class Candidate:
    """A model that may be published, and what is stored beside it.

    Attributes:
        model: SavedModel directory.
        facts: Further fields of the manifest. With `run_key` and `baseline_version`, the model is
            only published while that version is still the one to compare with.
        provenance: Folders to store beside the model, by name.
        validated: Files of the validated model, as `manifest.describe` returns them. None skips
            the comparison.
        decision: Decision of ImageEvaluator, whose figures the manifest gives.
        images: URI of the quarantine, in whose table the images to list beside the model are.
    """

    model: Path
    facts: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Path] = field(default_factory=dict)
    validated: Mapping[str, Mapping[str, Any]] | None = None
    decision: Decision | None = None
    images: str = ""


def push(base: Path, candidate: Candidate, gates: Mapping[str, bool], keep: int) -> Push:
    """Publish a model unless a gate refused it or it is the newest version already.

    Args:
        base: Base path of the published versions.
        candidate: The model, and what is stored beside it.
        gates: Whether each gate blessed the model, by name of the gate.
        keep: Number of versions to keep.

    Raises:
        ResourceError: The directory cannot be written, or the model is not the one that was
            validated. Nothing was changed.
    """
    files = manifest.describe(candidate.model)
    if candidate.validated is not None and files != candidate.validated:
        raise changed_files_error(candidate.model, files, candidate.validated)
    refused = [name for name, passed in gates.items() if not passed]
    if refused:
        return {**NOT_PUBLISHED, "refused_by": refused}
    identity = manifest.identity(files)
    with exclusive(base):  # other runs may publish at any other time
        withdrawn = manifest.withdrawn(base)
        if identity in withdrawn:
            holder = _version_of(base, identity)
            return {**NOT_PUBLISHED, "refused_by": ["rollback"], "withdrawn": holder}
        served = manifest.served(base)
        if served is not None and served.identity == identity:
            return _held_by(served, "unchanged")
        if _other_baseline(base, candidate.facts):
            return {**NOT_PUBLISHED, "refused_by": ["other_version"]}
        provenance = candidate.provenance.items()
        beside = {f"{manifest.PROVENANCE}/{name}": path for name, path in provenance}
        facts = {**candidate.facts, "withdrawn": withdrawn}
        if candidate.decision is not None:
            facts["figures"] = candidate.decision["figures"]
        published = publish(
            base,
            {"": candidate.model, **beside},
            facts,
            keep,
            expected=candidate.validated,
            texts=_texts(candidate),
        )
    return _held_by(published, "pushed")


def _held_by(version: manifest.Version, status: Literal["pushed", "unchanged"]) -> Push:
    """Return the publication of a model that a version holds."""
    return {
        **NOT_PUBLISHED,
        "status": status,
        "version": str(version.number),
        "path": str(version.folder),
    }


def _version_of(base: Path, identity: str) -> str | None:
    """Return the number of the oldest intact version that holds a model; None without one."""
    numbers = [
        version.number for version in manifest.versions(base) if version.identity == identity
    ]
    return str(min(numbers)) if numbers else None


def _texts(candidate: Candidate) -> dict[str, str]:
    """Return the text files to write beside the model by their path in the version."""
    if not candidate.images:
        return {}
    kept = tables.kept(candidate.images)
    split_of = dict(zip(kept["image_hash"], kept["split"], strict=True))
    images = manifest.known_images_text(split_of)
    return {f"{manifest.PROVENANCE}/{manifest.KNOWN_IMAGES}": images}


def _other_baseline(base: Path, facts: Mapping[str, Any]) -> bool:
    """Whether another run or a rollback has changed the version to compare with meanwhile."""
    if not {"run_key", "baseline_version"} <= facts.keys():  # of a pipeline without Plan
        return False
    baseline = manifest.baseline_for(base, facts["run_key"], facts.get("vocabulary", ()))
    return (baseline.number if baseline else 0) != facts["baseline_version"]
