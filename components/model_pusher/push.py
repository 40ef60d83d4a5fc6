"""The decision whether a model is published, and its publication."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from imgpipe.components.common.storage import known_images, manifest
from imgpipe.components.image_evaluator.decision import Decision
from imgpipe.components.model_pusher import model_card, versions


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
        decision: Decision of ImageEvaluator, whose figures manifest and model card give.
        images: URI of the Examples of the kept images, which are listed beside the model.
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
    refused = [name for name, passed in gates.items() if not passed]
    files = manifest.describe(candidate.model)
    if candidate.validated is not None and files != candidate.validated:
        raise versions.changed_files_error(candidate.model, files, candidate.validated)
    identity = manifest.identity(files)
    current: manifest.PublishedVersion | None = None

    def decide(newest: manifest.PublishedVersion | None) -> dict[str, Any] | None:
        """Return the models that rollbacks withdrew, None for a model that is not published."""
        nonlocal current
        current = newest  # other runs may publish at any other time
        withdrawn = manifest.withdrawn(base)
        served = manifest.served(base)
        if identity in withdrawn:
            refused.append("rollback")
        elif served is not None and served.identity == identity:
            return None
        elif _other_baseline(base, candidate.facts):
            refused.append("other_version")
        return None if refused else {"withdrawn": withdrawn}

    published = None
    facts = dict(candidate.facts)
    if candidate.decision is not None:
        facts["figures"] = candidate.decision["figures"]
    if not refused:
        published = versions.publish(
            base,
            {"": candidate.model} | _beside(candidate.provenance),
            facts,
            keep,
            decide,
            expected=candidate.validated,
            texts=_texts(candidate),
        )
    if refused:
        withdrawn = _version_of(base, identity) if "rollback" in refused else None
        return {**NOT_PUBLISHED, "refused_by": refused, "withdrawn": withdrawn}
    held_by = published or current
    return {
        "status": "pushed" if published else "unchanged",
        "version": str(held_by.number) if held_by else None,
        "path": str(held_by.path) if held_by else None,
        "refused_by": [],
        "withdrawn": None,
    }


def _version_of(base: Path, identity: str) -> str | None:
    """Return the number of the oldest intact version that holds a model; None without one."""
    numbers = [
        version.number for version in manifest.versions(base) if version.identity == identity
    ]
    return str(min(numbers)) if numbers else None


def _beside(provenance: Mapping[str, Path]) -> dict[str, Path]:
    """Return the folders to store beside the model by their path in the version."""
    return {f"{manifest.PROVENANCE}/{name}": path for name, path in provenance.items()}


def _texts(candidate: Candidate) -> dict[str, str]:
    """Return the text files to write beside the model by their path in the version."""
    texts = {manifest.CARD: model_card.model_card(candidate.facts, candidate.decision)}
    if candidate.images:
        images = known_images.text(candidate.images)
        texts[f"{manifest.PROVENANCE}/{known_images.FILE}"] = images
    return texts


def _other_baseline(base: Path, facts: Mapping[str, Any]) -> bool:
    """Whether another run or a rollback has changed the version to compare with meanwhile."""
    if not {"run_key", "baseline_version"} <= facts.keys():  # of a pipeline without Plan
        return False
    baseline = manifest.baseline_for(base, facts["run_key"], facts.get("vocabulary", ()))
    return (baseline.number if baseline else 0) != facts["baseline_version"]
