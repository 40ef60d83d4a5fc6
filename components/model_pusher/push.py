"""Whether a model is published, and its publication."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from imgpipe.components.common.image_row import kept_images
from imgpipe.components.common.storage import manifest
from imgpipe.components.image_evaluator.decision import Decision
from imgpipe.components.model_pusher import versions


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
        raise versions.changed_files_error(candidate.model, files, candidate.validated)
    refused = [name for name, passed in gates.items() if not passed]
    if refused:
        return {**NOT_PUBLISHED, "refused_by": refused}
    identity = manifest.identity(files)
    with versions.exclusive(base):  # other runs may publish at any other time
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
        published = versions.publish(
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
    kept = kept_images(candidate.images)
    split_of = dict(zip(kept.hashes.astype(str).tolist(), kept.splits.tolist(), strict=True))
    images = manifest.known_images_text(split_of)
    return {f"{manifest.PROVENANCE}/{manifest.KNOWN_IMAGES}": images}


def _other_baseline(base: Path, facts: Mapping[str, Any]) -> bool:
    """Whether another run or a rollback has changed the version to compare with meanwhile."""
    if not {"run_key", "baseline_version"} <= facts.keys():  # of a pipeline without Plan
        return False
    baseline = manifest.baseline_for(base, facts["run_key"], facts.get("vocabulary", ()))
    return (baseline.number if baseline else 0) != facts["baseline_version"]
