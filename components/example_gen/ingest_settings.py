"""Settings of ImageExampleGen."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Self

from imgpipe.components.common.component_settings import ComponentSettings
from imgpipe.components.common.splits import SplitRule
from imgpipe.components.example_gen.sources.base import SourceOptions
from imgpipe.serving.refused_image import PIXEL_LIMIT

SHARD_SIZE = 256  # files in one element, few enough for a worker to lose little when it fails


@dataclass(frozen=True)
class IngestSettings(ComponentSettings):
    """Settings of ImageExampleGen.

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
    rule: SplitRule = field(default_factory=SplitRule)
    pixel_limit: int = PIXEL_LIMIT
    fingerprint: str = ""
    shard_size: int = SHARD_SIZE
    options: SourceOptions = field(default_factory=SourceOptions)
    store: str = ""

    def to_json(self) -> str:
        """Write the settings as JSON; options that have their defaults are left out."""
        values = {**asdict(self), "options": self.options.to_json()}
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Convert back from `to_json`."""
        values = json.loads(text)
        parts = {
            "vocabulary": tuple(values["vocabulary"]),
            "rule": SplitRule.from_json(values["rule"]),
            "options": SourceOptions.from_json(values["options"]),
        }
        return cls(**{**values, **parts})
