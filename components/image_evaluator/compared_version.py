"""The version that a model is compared with, as it lies in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from imgpipe.components.common.storage import manifest
from imgpipe.components.image_evaluator.decision import BaselineState
from imgpipe.models.settings.given import Facts


@dataclass(frozen=True)
class ComparedVersion:
    """What ImageEvaluator reads of the last version.

    Attributes:
        state: Which version it is, and whether the models are compared.
        folder: Its SavedModel; "" if the models are not compared.
        split_of: Split of each image that it knows, by the short hash of the image. The images of
            two runs are compared even where their models cannot be.
    """

    state: BaselineState
    folder: str
    split_of: Mapping[str, str]

    @classmethod
    def of(cls, version: manifest.Version | None, facts: Facts) -> ComparedVersion:
        """Return what is read of a version; None is no version.

        Args:
            version: The version that the facts name.
            facts: What the plan of the run knows.
        """
        state: BaselineState = {
            "version": facts.baseline_version,
            "digest": facts.baseline_digest,
            "compared": False,
            "why": "",
            "columns": [],
        }
        if version is None:
            return cls({**state, "why": facts.no_baseline}, "", {})
        split_of = manifest.read_known_images(
            version.folder / manifest.PROVENANCE / manifest.KNOWN_IMAGES
        )
        if not version.comparable(facts.vocabulary):
            why = f"version {version.number} has other classes, so that the models are not compared"
            return cls({**state, "why": why}, "", split_of or {})
        if split_of is None:
            why = (
                f"version {version.number} does not say on which images it was trained, so that "
                "the models cannot be compared"
            )
            return cls({**state, "why": why}, "", {})
        before = {name: column for column, name in enumerate(version.vocabulary)}
        columns = [before.get(name, -1) for name in facts.vocabulary]
        return cls({**state, "compared": True, "columns": columns}, str(version.folder), split_of)
