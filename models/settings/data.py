"""The sections of the images: their source, their splits, the checks and the gate."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from imgpipe.models.files.image_limits import PIXEL_LIMIT
from imgpipe.models.settings.section import INPUT, LARGEST, OUTPUT, PLACE, SettingsSection

#: What happens to an image with a finding. "reject": it is moved to the quarantine; "repair": it is
#: kept as PNG, which nobody chooses; "warn": it is kept unchanged and reported; "ignore": it is not
#: checked.
Severity = Literal["reject", "repair", "warn", "ignore"]


class DataSettings(SettingsSection):
    """Source of the images."""

    classes: tuple[str, ...] = Field(
        default=(), description="Allowed class names. Empty: all classes that are found."
    )
    group_pattern: str = Field(
        default="",
        description="Regular expression that is searched in the path of each image. Its first "
        "group is the name of the image's group (a person, a video), and a group is never divided "
        r"between splits. Example: '([^/]+)\.rf\.'.",
    )
    label_column: str = Field(
        default="",
        description="Column or feature of the label, as a name or as an index from 0. Empty: it is "
        "found by its usual names.",
    )
    image_column: str = Field(
        default="",
        description="Column of the path in a .csv file, or feature of the encoded image in "
        "TFRecord files and TensorFlow Datasets. Empty: it is found by its usual names or its "
        "type.",
    )
    group_column: str = Field(
        default="",
        description="Column or feature that says which images belong together (a person, a film), "
        "as a name or as an index from 0. A group is never divided between splits. Empty: it is "
        "found by its usual names, such as group.",
    )
    label_pattern: str = Field(
        default="",
        description="Regular expression that is searched in the path of each image. Its first "
        r"group is the label, as in '([a-z]+)\.\d+\.jpg' for cat.12.jpg. Empty: the folders or the "
        "list give the labels.",
    )
    root: Annotated[str, PLACE] = Field(
        default="",
        description="Folder to which the paths in a .csv file are relative. Empty: the file's "
        "folder.",
    )
    class_level: int = Field(
        default=0,
        ge=0,
        le=9,
        description="Which folder of an image's path names its class: 1 for the first below the "
        "source or below its split folder, 2 for the folder in that, and so on. 0: the "
        "first; a tree that can be read in two ways is refused.",
    )
    skip: tuple[str, ...] = Field(
        default=(),
        description="Names of folders and files that are not read, such as masks or *_mask*, or "
        "paths from the source, such as /cleaned/masks.",
    )
    follow_links: bool = Field(
        default=False,
        description="Whether to read files outside of the source's folder to which symbolic links "
        "lead.",
    )
    tfds_dir: Annotated[str, PLACE] = Field(
        default="",
        description="Folder of TensorFlow Datasets. Empty: $TFDS_DATA_DIR or its default folder.",
    )
    source: Annotated[str, PLACE] = Field(
        default="",
        description="Source of the images: a folder with one sub-folder for each class, or with "
        "train/, validation/ and test/ that hold such folders; an archive of it (.zip, .tar, "
        ".tar.gz); a list of files (.csv, .tsv, .txt, .jsonl); a table of pixels (.csv); "
        "tfds:NAME[:split]; TFRecord files; such a folder in an object store, gs://BUCKET/PREFIX "
        "or s3://BUCKET/PREFIX.",
    )

    @field_validator("group_pattern", "label_pattern")
    @classmethod
    def _has_a_group(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"not a regular expression: {error}. Received: {pattern!r}") from None
        if pattern and not groups:
            raise ValueError(
                "it needs round brackets around the part of the path that counts. "
                f"Received: {pattern!r}"
            )
        return pattern

    @model_validator(mode="after")
    def _several_classes(self) -> Self:
        if self.classes and len(set(self.classes)) < max(2, len(self.classes)):
            raise ValueError(f"classes must be two or more different names: {self.classes}")
        return self


class SplitShares(SettingsSection):
    """What part of the images is in which split; all others are in train."""

    seed: int = Field(
        default=0,
        ge=0,
        le=LARGEST,
        description="Salt of the content hash. Another seed gives other splits.",
    )
    validation: float = Field(
        default=0.1, gt=0, lt=1, description="Share of images for validation."
    )
    test: float = Field(
        default=0.1, ge=0, lt=1, description="Share of images for test. 0: no test split."
    )


class SplitSettings(SplitShares):
    """How images are divided for training, validation and test; new images rarely move others."""

    @model_validator(mode="after")
    def _leaves_training_images(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation + test must leave something to train on, received "
                f"{self.validation} + {self.test}"
            )
        return self


class JudgeSettings(SettingsSection):
    """Rules by which ImageFilter rejects images, stores them as PNG, or warns about them."""

    min_side: int = Field(
        16,  # small enough for data sets with images of 28 × 28 pixels
        ge=1,
        le=LARGEST,
        description="Minimum side of an image, in pixels.",
    )
    pixel_limit: int = Field(
        PIXEL_LIMIT,
        ge=1,
        le=LARGEST,
        description="Maximum number of pixels (width x height) of an image that is decoded, "
        "according to its header.",
    )
    overrides: Annotated[str, INPUT] = Field(
        "",
        description="File of decisions about single images (accept, reject, relabel), which are "
        "addressed by content hash. `imgpipe review` adds entries. Empty: "
        "<out>/overrides.toml, if there is such a file.",
    )
    store: Annotated[str, OUTPUT] = Field(
        "",
        description="Folder of the inspection cache, which is kept across runs. Empty: "
        "<out>/judge.",
    )
    severity: Mapping[str, Severity] = Field(
        {}, description="What happens to an image with a finding: reject, warn or ignore."
    )
    threshold: Mapping[str, float] = Field(
        {}, description="The values with which the checks compare their measurements."
    )


class GateSettings(SettingsSection):
    """Requirements that the images must meet before training starts."""

    min_train: int = Field(
        4, ge=1, le=LARGEST, description="Minimum number of images of each class in train."
    )
    min_validation: int = Field(
        3,
        ge=1,
        le=LARGEST,
        description="Minimum number of images of each class in validation. Where the splits are "
        "drawn, a class with enough images gets as many, and at least 1 in test.",
    )
    allow_missing_classes: bool = Field(
        False,
        description="Whether classes of the vocabulary may have no image, as in sign language, "
        "where two of 26 letters have none.",
    )
    max_rejected_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Maximum share of rejected images; above it, the run stops.",
    )
    drift: Literal["reject", "warn", "ignore"] = Field(
        "reject",
        description="What happens when the data differs from that of the last blessed model: "
        "reject, warn or ignore. The limits are in the accepted schema, a text file.",
    )

    @property
    def levels(self) -> dict[str, str]:
        """What happens for each kind of difference.

        Splits that a source gives may differ on purpose, so that skew between them only warns.
        """
        return {"drift": self.drift, "skew": "warn"}
