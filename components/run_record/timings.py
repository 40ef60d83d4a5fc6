"""How long the parts of a run took, which the local runner writes to `timings.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typing_extensions import TypedDict

from imgpipe.components.run_record.run_files import TIMINGS
from imgpipe.models.files import json_object


class Timings(TypedDict):
    """Times in seconds."""

    total_s: Annotated[float, "The whole run."]
    import_s: Annotated[float, "Loading TensorFlow and TFX."]
    components: Annotated[dict[str, float], "Components by name."]


def read(folder: str) -> Timings | None:
    """Read the timings of a run; None where the local runner has written none."""
    file = Path(folder) / TIMINGS
    try:
        return json_object.read(file) if file.is_file() else None  # type: ignore[return-value]
    except (OSError, ValueError):  # a page without timings is better than none
        return None
