"""Settings, and how they reach a component.

A class of settings is at once a section of the configuration, what a component gets, and what its
rules read. The plan of a run adds what only it knows, such as the class names, and a component gets
both as one JSON text. TFX's cache compares this text besides the artifacts that the component
reads, so that it has everything that the component depends on, and nothing else.

A module of settings imports neither TensorFlow nor TFX, because the command line reads the
configuration and writes the texts while these are loading.
"""

from __future__ import annotations

import json
from typing import Self

from pydantic import BaseModel, ConfigDict

#: Name of the file with the texts, which the component Plan writes.
PLAN_FILE = "plan.json"
LARGEST = 2**63 - 1  # integer that a parameter of a component can be: they are stored as int64


class SettingsSection(BaseModel):
    """Base class of the sections: instances are frozen, and unknown keys are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )


class ComponentPlan(BaseModel):
    """Base class of what a component gets: its settings, and what the plan of a run adds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def to_json(self) -> str:
        """Write as JSON, sorted, because TFX's cache compares the text."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Convert back from `to_json`."""
        return cls.model_validate_json(text)
