"""Settings of ImageFilter."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Self

from imgpipe.components.common.component_settings import ComponentSettings
from imgpipe.components.image_filter import overrides as override_files
from imgpipe.components.image_filter.check import JudgeSettings
from imgpipe.components.image_filter.overrides import Override


@dataclass(frozen=True)
class FilterSettings(ComponentSettings):
    """Settings of ImageFilter.

    Attributes:
        vocabulary: Class names in sorted order.
        checks: Settings of the checks that the configuration decides.
        overrides: Decisions of people about single images.
    """

    vocabulary: tuple[str, ...]
    checks: JudgeSettings = field(default_factory=JudgeSettings)
    overrides: tuple[Override, ...] = ()

    def to_json(self) -> str:
        """Write the settings as JSON, without the notes and paths of the overrides."""
        values = {
            "vocabulary": self.vocabulary,
            "checks": self.checks.to_json(),
            "overrides": override_files.to_json(self.overrides),
        }
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Convert back from `to_json`."""
        values = json.loads(text)
        return cls(
            tuple(values["vocabulary"]),
            JudgeSettings.from_json(values["checks"]),
            override_files.from_json(values["overrides"]),
        )
