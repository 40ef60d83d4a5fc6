"""Compares the JSON that a command writes with its declared format."""

from __future__ import annotations

import types
import typing
from typing import Any

from imgpipe.pipeline.json_formats import FORMATS


def conform(command: str, value: Any) -> None:
    """Check that the JSON of a command has exactly the declared fields, with the declared types.

    Args:
        command: Name of the command, such as "quarantine list".
        value: The parsed JSON.

    Raises:
        AssertionError: The value differs from the format; the message names the fields.
    """
    wrong = list(_differences(value, FORMATS[command], command))
    assert not wrong, "\n".join(wrong)


def _differences(value: Any, kind: Any, where: str) -> typing.Iterator[str]:
    """Yield a message for each difference between a value and the declared type ``kind``."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        yield from _differences(value, inner[0], where)
    elif typing.is_typeddict(kind):
        yield from _of_object(value, kind, where)
    elif origin in (types.UnionType, typing.Union):
        found = [list(_differences(value, one, where)) for one in inner]
        if all(found):
            yield from min(found, key=len)
    elif origin is list and isinstance(value, list):
        for number, one in enumerate(value):
            yield from _differences(one, inner[0], f"{where}[{number}]")
    elif origin is dict and isinstance(value, dict):
        for key, one in value.items():
            yield from _differences(one, inner[1], f"{where}.{key}")
    elif origin is typing.Literal:
        if value not in inner:
            yield f"{where}: {value!r} is none of {inner}"
    elif kind is float and type(value) is int:  # JSON has one kind of number
        return
    elif kind is not Any and type(value) is not (origin or kind):
        yield f"{where}: {value!r} is no {origin or kind}"


def _of_object(value: Any, kind: Any, where: str) -> typing.Iterator[str]:
    """Yield a message for each difference between a value and a typed dictionary."""
    if not isinstance(value, dict):
        yield f"{where}: {value!r} is no object"
        return
    hints = typing.get_type_hints(kind, include_extras=True)
    yield from (f"{where}.{name} is not declared" for name in value.keys() - hints.keys())
    yield from (f"{where}.{name} is missing" for name in kind.__required_keys__ - value.keys())
    for name in value.keys() & hints.keys():
        yield from _differences(value[name], hints[name], f"{where}.{name}")
