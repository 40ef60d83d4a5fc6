"""Compares the JSON that a command writes with its declared format."""

from typing import Any

from pydantic import TypeAdapter

from imgpipe.pipeline.json_formats import FORMATS


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
