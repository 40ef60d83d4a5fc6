"""Settings of ImageEvaluator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imgpipe.components.common.component_settings import ComponentSettings


@dataclass(frozen=True)
class EvaluatorSettings(ComponentSettings):
    """Settings of ImageEvaluator.

    Attributes:
        vocabulary: Class names in sorted order.
        section: The section `[evaluate]` of the configuration.
        accept_changes: 1 if a person accepts how the images differ from earlier ones, otherwise 0.
    """

    vocabulary: tuple[str, ...]
    section: Mapping[str, Any]
    accept_changes: int = 0
