"""Settings of ModelPusher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imgpipe.components.common.component_settings import ComponentSettings
from imgpipe.components.common.storage.manifest import KEPT_VERSIONS

#: File with the outcome, in the artifact of ModelPusher.
PUSH_FILE = "push.json"


@dataclass(frozen=True)
class PusherSettings(ComponentSettings):
    """Settings of ModelPusher.

    Attributes:
        push_directory: Base path of the published versions.
        keep: Number of versions to keep.
        facts: Further fields of the manifest, such as run key and vocabulary. With `run_key` and
            `baseline_version`, the model is only published while that version is still the one to
            compare with.
    """

    push_directory: str
    keep: int = KEPT_VERSIONS
    facts: Mapping[str, Any] = field(default_factory=dict)
