"""The section `[data]` of the configuration, what sources read, and what ImageExampleGen gets."""

from __future__ import annotations

import dataclasses
import re
from typing import Annotated, Self

import pydantic.dataclasses
from pydantic import Field, field_validator, model_validator

from imgpipe.components.common.splits import SplitRule
from imgpipe.models.settings.section import PLACE, STRICT, ComponentPlan
from imgpipe.serving.look import PIXEL_LIMIT

SHARD_SIZE = 256  # files in one element, few enough for a worker to lose little when it fails


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class DataSettings:
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
    split_folders: tuple[str, ...] = Field(
        default=(),
        description="Folders that are splits although their names do not say so in English, each "
        "with its split: ['Prüfung=test'].",
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
        ".tar.gz); a list of files (.csv, .jsonl); a table of pixels (.csv); tfds:NAME[:split]; "
        "TFRecord files; such a folder in an object store, gs://BUCKET/PREFIX or "
        "s3://BUCKET/PREFIX.",
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

    @field_validator("split_folders")
    @classmethod
    def _names_splits(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            if not re.fullmatch(r".+=(train|val|validation|test)", entry):
                raise ValueError(
                    "expected names of folders with train, val or test, such as 'Prüfung=test'. "
                    f"Received: {entry!r}"
                )
        return entries

    @model_validator(mode="after")
    def _several_classes(self) -> Self:
        if self.classes and len(set(self.classes)) < max(2, len(self.classes)):
            raise ValueError(f"classes must be two or more different names: {self.classes}")
        return self


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class SourceOptions(DataSettings):
    """How a source is read: the section [data], and what a command adds."""

    least_classes: int = 2  # with fewer the source is refused; one is enough for an evaluation
    #: Folder of the inspection cache, in which compressed files are unpacked too; "" for none.
    store: str = ""

    @classmethod
    def of(cls, data: DataSettings, store: str = "", least_classes: int = 2) -> Self:
        """Return the options with which a command reads the source of a configuration."""
        return cls(**dataclasses.asdict(data), store=store, least_classes=least_classes)


class ReadPlan(ComponentPlan):
    """What ImageExampleGen gets.

    Attributes:
        options: How the source is read.
        vocabulary: Class names in sorted order.
        rule: Rule by which images are assigned to splits.
        pixel_limit: Largest number of pixels of an image that is decoded.
        fingerprint: `Scan.fingerprint` of the source when the run was planned; "" skips the
            comparison.
        shard_size: Number of images in one shard.
    """

    options: SourceOptions
    vocabulary: tuple[str, ...]
    rule: SplitRule = SplitRule()
    pixel_limit: int = PIXEL_LIMIT
    fingerprint: str = ""
    shard_size: int = SHARD_SIZE
