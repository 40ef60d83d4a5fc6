"""The section `[push]` of the configuration, and what ModelPusher gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from imgpipe.models.settings.section import LARGEST, ComponentPlan, SettingsSection

VERSIONS = "model"  # folder of the versions, in the output folder
#: File with the outcome, in the artifact of ModelPusher.
PUSH_FILE = "push.json"


class PushSettings(SettingsSection):
    """Published versions of blessed models."""

    keep: int = Field(
        3,
        ge=1,
        le=LARGEST,
        description="Number of versions that are kept; older ones are removed "
        "when a model is published.",
    )


class PusherPlan(ComponentPlan):
    """What ModelPusher gets.

    Attributes:
        settings: How many versions are kept.
        versions: Absolute path of the folder of the versions.
        facts: Further fields of the manifest, such as run key and vocabulary. With `run_key` and
            `baseline_version`, the model is only published while that version is still the one to
            compare with.
    """

    settings: PushSettings
    versions: str
    facts: Mapping[str, Any] = {}
