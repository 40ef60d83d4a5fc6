"""Limits of settings, as the settings declare them, and the message about a violation."""

from __future__ import annotations

from typing import Any, Final

from pydantic import ConfigDict, ValidationError
from pydantic.fields import FieldInfo

#: A setting with an unknown name is an error, and defaults are checked against the limits too.
STRICT: Final = ConfigDict(extra="forbid", validate_default=True)


def declared(section: Any) -> dict[str, FieldInfo]:
    """Returns the settings of a section by name, in the order of their declaration.

    Args:
        section: A class of settings or an instance of one; anything else has no settings.
    """
    fields: dict[str, FieldInfo] = getattr(section, "__pydantic_fields__", {})
    return fields


def problems(error: ValidationError) -> list[str]:
    """Describes each wrong value: its name, what was expected and what was received.

    Args:
        error: The error that pydantic raised.

    Returns:
        One sentence for each value, such as "dropout: input should be less than or equal to 0.99.
        Received: 1".
    """
    described = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        # Our own validators raise ValueError; their messages name what was received already.
        text = problem["msg"].removeprefix("Value error, ")
        received = "" if problem["type"] == "value_error" else f". Received: {problem['input']!r}"
        described.append(f"{key}: {text[:1].lower()}{text[1:]}{received}")
    return described
