"""Settings that declare their own limits, and how a violation is put into words."""

from __future__ import annotations

from typing import Any, Final

from pydantic import ConfigDict, ValidationError
from pydantic.fields import FieldInfo

#: Unknown names are errors, and defaults are held to their limits too.
STRICT: Final = ConfigDict(extra="forbid", validate_default=True)


def declared(section: Any) -> dict[str, FieldInfo]:
    """The settings of a section by name, in the order of their declaration.

    Args:
        section: A class of settings or an instance of one; anything else has no settings.
    """
    fields: dict[str, FieldInfo] = getattr(section, "__pydantic_fields__", {})
    return fields


def problems(error: ValidationError) -> list[str]:
    """One sentence for each value that is wrong: its name, what was expected and what was received.

    Returns:
        Such as "dropout: input should be less than or equal to 0.99. Received: 1".
    """
    found = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        text = problem["msg"].removeprefix("Value error, ")
        received = "" if problem["type"] == "value_error" else f". Received: {problem['input']!r}"
        found.append(f"{key}: {text[:1].lower()}{text[1:]}{received}")
    return found
