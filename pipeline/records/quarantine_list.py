"""Reads the lists of a quarantine, which ImageFilter wrote."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import TypeAdapter

from imgpipe.components.image_filter.judge.check import Row
from imgpipe.models.errors import ResourceError
from imgpipe.models.files.json_object import SchemaNumber
from imgpipe.pipeline.records import checked

_ROW = TypeAdapter(Row)


class QuarantineRow(Row):
    """One object for each file, on a line of its own."""

    schema: SchemaNumber


def read(file: Path) -> list[Row]:
    """Read a list, in the order of the file; an empty one if there is no file.

    Raises:
        ResourceError: A line is damaged.
    """
    rows = []
    for number, line in enumerate(file.read_bytes().splitlines() if file.is_file() else (), 1):
        try:
            rows.append(checked(_ROW, json.loads(line)))
        except (ValueError, RecursionError) as error:
            raise ResourceError(
                f"{file}, line {number}: expected a JSON object that a run wrote, received "
                f"{line[:80]!r} ({error}). Restore the file, or run again."
            ) from None
    return rows
