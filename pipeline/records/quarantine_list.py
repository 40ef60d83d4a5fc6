"""What `imgpipe quarantine list --json` writes."""

from __future__ import annotations

from imgpipe.components.image_filter.judge.check import Row
from imgpipe.models.files.json_object import SchemaNumber


class QuarantineRow(Row):
    """One object for each file, on a line of its own."""

    schema: SchemaNumber
