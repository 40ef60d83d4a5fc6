"""Compares the JSON that a command writes with its declared format."""

from typing import Any

from pydantic import TypeAdapter

from imgpipe.pipeline.json_formats import FORMATS


def conform(command: str, value: Any) -> None:
    """Check that the JSON of a command, such as "drift", has exactly the declared fields.

    A field that is missing or has another type is a ValidationError.
    """
    kind = TypeAdapter(FORMATS[command])
    found = kind.validate_python(value, strict=True)
    assert kind.dump_python(found, by_alias=True, exclude_unset=True) == value
