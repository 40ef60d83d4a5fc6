"""The settings of a component, which it gets as one JSON text.

The text is what TFX's cache compares besides the artifacts that a component reads, so that a class
of settings has everything that its component depends on, and nothing else. Its module imports
neither TensorFlow nor TFX, because the plan of a run writes the texts while these are loading.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True)
class ComponentSettings:
    """Base class of the settings of a component; its fields are values of JSON and tuples."""

    def to_json(self) -> str:
        """Write the settings as JSON, sorted, because TFX's cache compares the text."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Convert back from `to_json`."""
        values = json.loads(text)
        return cls(
            **{
                name: tuple(value) if isinstance(value, list) else value
                for name, value in values.items()
            }
        )
