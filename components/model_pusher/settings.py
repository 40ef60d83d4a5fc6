"""The section `[push]` of the configuration, and what ModelPusher gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from imgpipe.models.settings.section import LARGEST, OUTPUT, ComponentPlan, SettingsSection

VERSIONS = "model"  # usual folder of the versions, in the output folder
#: File with the outcome, in the artifact of ModelPusher.
PUSH_FILE = "push.json"


class PushSettings(SettingsSection):
    """Destination of blessed models."""

    directory: Annotated[str, OUTPUT] = Field(
        "", description="Folder of the versions, from which a server reads. Empty: <out>/model."
    )
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
        settings: Destination, with the absolute path of the folder.
        facts: Further fields of the manifest, such as run key and vocabulary. With `run_key` and
            `baseline_version`, the model is only published while that version is still the one to
            compare with.
    """

    settings: PushSettings
    facts: Mapping[str, Any] = {}
