"""Names of files and folders in an output folder, and absolute paths of settings."""

from __future__ import annotations

from pathlib import Path
from typing import Final

VERSIONS: Final = "model"  # folder of the published versions, in the output folder
DECISIONS: Final = "overrides.toml"  # in the output folder: the decisions of a review
SCHEMA_FILE: Final = "schema.pbtxt"  # the name that TFX's components give it
GATE_FILE: Final = "gate.json"  # the decision of DataGate


def absolute_path(given: str | Path) -> Path:
    """Return the absolute path of a setting, in which `~` may stand for the user's folder."""
    return Path(given).expanduser().absolute()
