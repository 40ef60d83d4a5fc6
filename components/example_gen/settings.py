"""The section `[data]` of the configuration, and what ImageExampleGen gets."""

from __future__ import annotations

import dataclasses
import re
from typing import Annotated

import pydantic.dataclasses
from pydantic import Field, model_validator

from imgpipe.components.common.settings import ComponentPlan
from imgpipe.components.common.splits import SplitRule
from imgpipe.components.example_gen.sources.base import SourceOptions, SourceSettings
from imgpipe.models.limits import PLACE, STRICT
from imgpipe.serving.refused_image import PIXEL_LIMIT

SHARD_SIZE = 256  # files in one element, few enough for a worker to lose little when it fails


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class DataSettings(SourceSettings):
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
    def _pattern_has_a_group(self) -> DataSettings:
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


class ReadPlan(ComponentPlan):
    """What ImageExampleGen gets.

    Attributes:
        source: Source of the images, as `open_source` accepts it.
        vocabulary: Class names in sorted order.
        rule: Rule by which images are assigned to splits.
        pixel_limit: Largest number of pixels of an image that is decoded.
        fingerprint: `Scan.fingerprint` of the source when the run was planned; "" skips the
            comparison.
        shard_size: Number of images in one shard.
        options: How the source is read.
        store: Folder of the inspection cache, "" for none.
    """

    source: str
    vocabulary: tuple[str, ...]
    rule: SplitRule = SplitRule()
    pixel_limit: int = PIXEL_LIMIT
    fingerprint: str = ""
    shard_size: int = SHARD_SIZE
    options: SourceOptions = SourceOptions()
    store: str = ""
