"""Compares the JSON that a command writes with its declared format."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter

from imgpipe.pipeline.json_formats import FORMATS
from tests.command import invoked


def conform(command: str, value: Any) -> None:
    """Check that the JSON of a command has exactly the declared fields, with the declared types.

    Args:
        command: Name of the command, such as "quarantine list".
        value: The parsed JSON.

    Raises:
        ValidationError: A field is missing, or its value has another type.
        AssertionError: A field is not declared.
    """
    kind = TypeAdapter(FORMATS[command])
    found = kind.validate_python(value, strict=True)
    assert kind.dump_python(found, by_alias=True, exclude_unset=True) == value


def written(command: str, *words: object) -> Any:
    """Run a command; return the JSON that it writes, which must have the declared format."""
    value = json.loads(invoked(command, *words, "--json", "-").stdout)
    conform(command, value)
    return value
