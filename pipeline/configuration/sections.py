"""The sections of the configuration: every setting with its type, limits and description.

The settings of sources, of the network, of training and of augmentation are declared where they are
used, those of Beam and Kubeflow in `beam.py` and `kubeflow.py`. `imgpipe init` writes the
descriptions as comments.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator
from pydantic.dataclasses import dataclass

from imgpipe.components.common.splits import SplitRule
from imgpipe.components.common.storage.manifest import KEPT_VERSIONS
from imgpipe.components.data_gate.rules import GateSettings
from imgpipe.components.example_gen.sources.base import SourceOptions, SourceSettings
from imgpipe.components.image_filter.check import Groups, JudgeSettings
from imgpipe.components.image_filter.checks import CHOICES, THRESHOLDS
from imgpipe.models.augmentation import ViewSpec
from imgpipe.models.features.folds import AUTOMATIC
from imgpipe.models.limits import INPUT, OUTPUT, PLACE, STRICT
from imgpipe.serving.refused_image import PIXEL_LIMIT

_LARGEST = 2**63 - 1  # integer that a parameter of a component can be: they are stored as int64


class SettingsSection(BaseModel):
    """Base class of the sections: instances are frozen, and unknown keys are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )


class RunSection(SettingsSection):
    """Name of the pipeline, and folder of its results."""

    # The name is part of URLs, such as /v1/models/NAME:predict, in which these are plain.
    name: str = Field(
        "imgpipe",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$",
        description="Name of the pipeline: at most 63 letters, digits, `_`, `.` and `-`, of which "
        "the first is a letter or digit.",
    )
    out: Annotated[str, OUTPUT] = Field(
        "imgpipe-out",
        min_length=1,
        description="Folder of artifacts, metadata, feature bank, published versions and reports.",
    )
    keep: int = Field(
        3,
        ge=0,
        le=_LARGEST,
        description="Number of runs that keep their artifacts. When a run has ended, those of "
        "earlier runs are removed, except where the next run or a published version needs them; "
        "reports and summaries stay. 0: all are kept, until `imgpipe clean` removes them.",
    )


@dataclass(frozen=True, config=STRICT)
class DataSection(SourceSettings):
    """Source of the images."""

    source: Annotated[str, PLACE] = Field(
        default="",
        description="Source of the images: a folder with one sub-folder for each class, or with "
        "train/, validation/ and test/ that hold such folders; an archive of it (.zip, .tar, "
        ".tar.gz); a list of files (.csv, .jsonl); a table of pixels (.csv); tfds:NAME[:split]; "
        "TFRecord files; such a folder in an object store, gs://BUCKET/PREFIX or "
        "s3://BUCKET/PREFIX.",
    )

    @property
    def options(self) -> SourceOptions:
        """Options of the source: this section without the source itself."""
        values = dataclasses.asdict(self)
        del values["source"]
        return SourceOptions(**values)

    @model_validator(mode="after")
    def _pattern_has_a_group(self) -> DataSection:
        if self.group_pattern:
            try:
                groups = re.compile(self.group_pattern).groups
            except re.error as error:
                raise ValueError(f"group_pattern is not a regular expression: {error}") from None
            if not groups:
                raise ValueError(
                    "group_pattern needs round brackets around the part of the path that is the "
                    f"group's name, received {self.group_pattern!r}"
                )
        if self.classes and len(set(self.classes)) < max(2, len(self.classes)):
            raise ValueError(f"classes must be two or more different names: {self.classes}")
        return self


class SplitSection(SettingsSection):
    """How images are divided for training, validation and test; new images rarely move others."""

    seed: int = Field(
        SplitRule.seed,
        ge=0,
        le=_LARGEST,
        description="Salt of the content hash. Another seed gives other splits.",
    )
    validation: float = Field(
        SplitRule.validation, gt=0, lt=1, description="Share of images for validation."
    )
    test: float = Field(
        SplitRule.test, ge=0, lt=1, description="Share of images for test. 0: no test split."
    )
    groups: Groups = Field(
        "auto",
        description="How images that belong together are found if neither `data.group_pattern` "
        "nor a column names them. auto: by the names of the files (frames of one film, visits of "
        "one patient, copies that an augmentation program has written) and by the camera and time "
        "of the photographs (bursts). none: not at all. Similar images are found in any case; see "
        "`judge.threshold.near_duplicate`.",
    )

    @model_validator(mode="after")
    def _leaves_training_images(self) -> SplitSection:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation + test must leave something to train on, received "
                f"{self.validation} + {self.test}"
            )
        return self


if TYPE_CHECKING:
    from typing import TypeAlias

    Severities: TypeAlias = SettingsSection  # mypy cannot follow `create_model`
    Thresholds: TypeAlias = SettingsSection
else:  # from the checks themselves, so that a new check needs no line here
    Severities = create_model(
        "Severities",
        __base__=SettingsSection,
        __doc__="What happens to an image with a finding: reject, repair, warn or ignore.",
        **{
            name: (
                Literal[choice.may_be],
                Field(choice.usual, description=f"{choice.about} ({', '.join(choice.may_be)})."),
            )
            for name, choice in CHOICES.items()
        },
    )
    Thresholds = create_model(
        "Thresholds",
        __base__=SettingsSection,
        __doc__="The values with which the checks compare their measurements.",
        **{
            name: (float, Field(usual, ge=0, description=f"{about[:1].upper()}{about[1:]}."))
            for name, (usual, about) in THRESHOLDS.items()
        },
    )


class JudgeSection(SettingsSection):
    """Rules by which ImageFilter rejects, repairs and warns about images."""

    min_side: int = Field(
        JudgeSettings.min_side,
        ge=1,
        le=_LARGEST,
        description="Minimum side of an image, in pixels.",
    )
    pixel_limit: int = Field(
        PIXEL_LIMIT,
        ge=1,
        le=_LARGEST,
        description="Maximum number of pixels (width x height) of an image that is decoded, "
        "according to its header.",
    )
    overrides: Annotated[str, INPUT] = Field(
        "",
        description="File of decisions about single images (accept, reject, relabel), which are "
        "addressed by content hash. Labels of the test split never change. `imgpipe review` adds "
        "entries. Empty: <out>/overrides.toml, if there is such a file.",
    )
    store: Annotated[str, OUTPUT] = Field(
        "",
        description="Folder of the inspection cache, which is kept across runs. Empty: "
        "<out>/judge.",
    )
    severity: Severities = Severities()
    threshold: Thresholds = Thresholds()


class GateSection(SettingsSection):
    """Requirements that the images must meet before training starts."""

    min_train: int = Field(
        4, ge=1, le=_LARGEST, description="Minimum number of images of each class in train."
    )
    min_validation: int = Field(
        3,
        ge=1,
        le=_LARGEST,
        description="Minimum number of images of each class in validation. Where the splits are "
        "drawn, a class with enough images gets as many, and at least 1 in test.",
    )
    allow_missing_classes: bool = Field(
        False,
        description="Whether classes of the vocabulary may have no image, as in sign language, "
        "where two of 26 letters have none.",
    )
    max_rejected_share: float = Field(
        GateSettings.max_rejected_share,
        ge=0,
        le=1,
        description="Maximum share of rejected images; above it, the run stops.",
    )
    drift: Literal["reject", "warn", "ignore"] = Field(
        "reject",
        description="What happens when the data differs from that of the last blessed model: "
        "reject, warn or ignore. The limits are in the accepted schema, a text file.",
    )
    skew: Literal["reject", "warn", "ignore"] = Field(
        "warn",
        description="What happens when validation or test differs from train: reject, warn or "
        "ignore.",
    )


@dataclass(frozen=True, config=STRICT)
class Views(ViewSpec):
    """Augmented views of each training image, in addition to the image itself."""

    count: int = Field(
        default=AUTOMATIC,
        ge=AUTOMATIC,
        le=32,
        description="Augmented views per image. -1: 4, but none for a head that is solved.",
    )

    @property
    def spec(self) -> ViewSpec:
        """Settings of the views themselves; `count` is the most that are made."""
        count = ViewSpec.count if self.count == AUTOMATIC else self.count
        return ViewSpec(**{**dataclasses.asdict(self), "count": count})


class BankSection(SettingsSection):
    """The feature bank: the frozen backbone's output, computed once for each image and view."""

    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto",
        description="Precision of the computation. auto: bfloat16 if the CPU supports it, "
        "otherwise float32.",
    )
    store: Annotated[str, OUTPUT] = Field(
        "", description="Folder of the features, which are kept across runs. Empty: <out>/bank."
    )
    budget: float | None = Field(
        None,
        ge=0,
        examples=[20],
        description="Maximum size in GiB of the features of a run. Above it, fewer augmented views "
        "are stored; if not even the images themselves fit, layers are trained on images "
        "instead. Not set: a quarter of the free disk space.",
    )


class EvaluateSection(SettingsSection):
    """Requirements on a model to be blessed."""

    threshold: float = Field(
        0.9,
        ge=0,
        le=1,
        description="Minimum validation accuracy of a blessed model. 0 demands nothing, not even "
        "that it is better than always answering the most frequent class.",
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
        description="Recall that each class must be able to have: the upper end of its 95 % "
        "interval must reach it. If it is not set, a quarter of the threshold.",
    )
    cross_validate: int = Field(
        AUTOMATIC,
        ge=AUTOMATIC,
        le=20,
        description="Number of folds over train and validation. Their mean accuracy must then "
        "reach the threshold, instead of the validation accuracy. 0: no folds. -1: 5 folds where "
        "a solved head is published and validation has fewer than 200 images or, unless the source "
        "names it, train and validation have at most 2,000; for a network that folds of the search "
        "have judged, those.",
    )

    @model_validator(mode="after")
    def _more_than_one_fold(self) -> EvaluateSection:
        if self.cross_validate == 1:
            raise ValueError(
                "cross_validate must be -1 (automatic), 0 (off) or 2 to 20 folds, received 1"
            )
        return self


class PushSection(SettingsSection):
    """Destination of blessed models."""

    directory: Annotated[str, OUTPUT] = Field(
        "", description="Folder of the versions, from which a server reads. Empty: <out>/model."
    )
    keep: int = Field(
        KEPT_VERSIONS,
        ge=1,
        le=_LARGEST,
        description="Number of versions that are kept; older ones are removed "
        "when a model is published.",
    )


class ExpectSection(SettingsSection):
    """The expected result, which is shown next to the actual one and decides nothing."""

    text: str = Field(
        "",
        description="The expected result in words, with its data, its source and the duration.",
    )
    low: float | None = Field(
        None, ge=0, le=1, examples=[0.9], description="Lower end of the expected accuracy."
    )
    high: float | None = Field(
        None, ge=0, le=1, examples=[0.98], description="Upper end of the expected accuracy."
    )
    split: Literal["validation", "test"] = Field(
        "validation",
        description="Split whose accuracy is compared; validation if the data has no test split.",
    )

    @model_validator(mode="after")
    def _low_is_not_above_high(self) -> ExpectSection:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low must not be above high, received {self.low} and {self.high}")
        return self
