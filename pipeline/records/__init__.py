"""The records that are read again from the files of earlier runs, and how they are checked.

A result is declared where it is made, as a `TypedDict` whose annotations say what each field holds.
`imgpipe.pipeline.json_formats` lists the results of all commands.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

_Content = TypeVar("_Content")


def checked(format_: TypeAdapter[_Content], content: object) -> _Content:
    """Check parsed JSON.

    Args:
        format_: The format that it must have. Fields that it does not declare are left out.
        content: The parsed JSON.

    Raises:
        ValueError: It has another format; the message says what is wrong with its first field.
    """
    try:
        return format_.validate_python(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(f"{field}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None
