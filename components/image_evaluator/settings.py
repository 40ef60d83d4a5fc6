"""The section `[evaluate]` of the configuration, and what ImageEvaluator gets."""

from __future__ import annotations

from pydantic import Field, model_validator

from imgpipe.models.settings.section import AUTOMATIC, ComponentPlan, SettingsSection

#: File in the blessing of ImageEvaluator, which says with which version the model was compared.
BASELINE_FILE = "baseline.json"
#: Folder in a version's provenance with the predictions of the run that published the version: its
#: answers for the held-out images of that run.
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
    tfma: bool = Field(
        False,
        description="Whether TensorFlow Model Analysis writes its result, by split and class, into "
        "the artifact `evaluation` of ImageEvaluator. It decides nothing. `imgpipe kubeflow "
        "compile` turns it on unless it is set.",
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
        vocabulary: Class names in sorted order. Two models are compared on the classes that both
            know, if there are several.
        accept_changes: 1 if a person accepts how the images differ from earlier ones, otherwise 0.
        versions: Base path of the published versions.
        version: Number of the version to compare with, 0 for none.
        digest: Fingerprint of that version, so that TFX's cache notices a changed one.
        why_none: Why there is none; "" if there is one.
        answers: Folder in which the answers of models are kept across runs; "" for none.
    """

    settings: EvaluateSettings
    vocabulary: tuple[str, ...]
    accept_changes: int = 0
    versions: str = ""
    version: int = 0
    digest: str = ""
    why_none: str = ""
    answers: str = ""
