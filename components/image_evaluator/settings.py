"""The section `[evaluate]` of the configuration, and what ImageEvaluator and Baseline get."""

from __future__ import annotations

from pydantic import Field, model_validator

from imgpipe.models.settings.section import AUTOMATIC, ComponentPlan, SettingsSection

#: File in the model artifact of Baseline, which says whether there is a model and why not.
BASELINE_FILE = "baseline.json"
#: Folder in a version's provenance, and in the model artifact of Baseline, with the predictions of
#: the run that published the version: its answers for the held-out images of that run.
ANSWERS_FOLDER = "answers"


class EvaluateSettings(SettingsSection):
    """Requirements on a model to be blessed."""

    threshold: float = Field(
        0.9,
        ge=0,
        le=1,
        examples=[0.9],
        description="Minimum validation accuracy of a blessed model. 0 demands nothing, not even "
        "that it is better than always answering the most frequent class. If it is not set, that "
        "of the newest version in the output folder, and 0.9 without one.",
    )
    max_drop: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Maximum drop in accuracy compared with the last version, on the validation "
        "images that neither was trained on, all of them and those of each class. A drop that may "
        "be chance does not count.",
    )
    min_recall: float | None = Field(
        None,
        ge=0,
        le=1,
        examples=[0.5],
        description="Recall that each class must be able to have: the upper end of its interval, "
        "whose chance of 5 % is divided among the classes, must reach it. If it is not set, a "
        "quarter of the threshold.",
    )
    cross_validate: int = Field(
        AUTOMATIC,
        ge=AUTOMATIC,
        le=20,
        description="Number of folds over train and validation. Their accuracy must then "
        "reach the threshold, instead of the validation accuracy. 0: no folds. -1: 5 folds where "
        "a solved head is published and validation has fewer than 200 images or, unless the source "
        "names it, train and validation have at most 2,000; for a network that folds of the search "
        "have judged, those.",
    )

    @model_validator(mode="after")
    def _more_than_one_fold(self) -> EvaluateSettings:
        if self.cross_validate == 1:
            raise ValueError(
                "cross_validate must be -1 (automatic), 0 (off) or 2 to 20 folds, received 1"
            )
        return self


class EvaluatorPlan(ComponentPlan):
    """What ImageEvaluator gets.

    Attributes:
        settings: Requirements on the model.
        vocabulary: Class names in sorted order.
        accept_changes: 1 if a person accepts how the images differ from earlier ones, otherwise 0.
    """

    settings: EvaluateSettings
    vocabulary: tuple[str, ...]
    accept_changes: int = 0


class BaselinePlan(ComponentPlan):
    """What Baseline gets.

    Attributes:
        versions: Base path of the published versions.
        version: Number of the version to compare with, 0 for none.
        digest: Fingerprint of that version, so that a changed version invalidates the cached copy.
        why_none: Why there is none; "" if there is one.
        vocabulary: Class names of this run in sorted order. The models are compared on the classes
            that both know, if there are several.
    """

    versions: str
    version: int
    digest: str
    why_none: str
    vocabulary: tuple[str, ...]
