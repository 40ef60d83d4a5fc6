"""The reference of the JSON that the commands write, from the types that declare it."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, NotRequired

from command_pages import cell

HEADING = """# JSON

This page is generated from the types that declare the JSON of the commands; tests compare them with
what the commands write. `--json FILE` writes it to a file. With `--json -` standard output carries
the JSON and nothing else, and messages go to standard error. A later release may add fields; the
meaning of a field does not change as long as `schema` has the same number.

A name such as `gate.split` is a field of the object `gate`, `findings[].count` a field of each
element of a list, and `metrics.*.accuracy` a field of each value of an object whose keys are
not fixed.
"""

_NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def json_formats() -> str:
    """Return the page of all formats."""
    from imgpipe.pipeline.json_formats import FORMATS

    parts = [HEADING]
    by_kind: dict[Any, str] = {}
    for command, kind in FORMATS.items():
        anchor = command.replace(" ", "-")
        parts.append(f'## <span id="{anchor}"></span>`imgpipe {command}`')
        if kind in by_kind:
            parts.append(_same_as(by_kind[kind]))
            continue
        parts += _format(kind, by_kind)
        by_kind[kind] = command
    return "\n\n".join(parts) + "\n"


def _same_as(command: str) -> str:
    return f"The same object as [`imgpipe {command}`](#{command.replace(' ', '-')}) writes."


def _format(kind: Any, told: Mapping[Any, str]) -> Iterator[str]:
    """Yield the description and the table of a format, or of each object that it may be.

    `told` has the commands of the formats that stand above, by their types.
    """
    is_list = typing.get_origin(kind) is list
    if is_list:
        kind = typing.get_args(kind)[0]
    objects = typing.get_args(kind) or (kind,)
    if len(objects) > 1:
        yield f"{'A list of objects' if is_list else 'One object a line'}, each one of these:"
    elif is_list:
        yield "A list of objects:"
    for one in objects:
        yield " ".join((one.__doc__ or "").split())
        yield "\n".join(["| field | type | meaning |", "|---|---|---|", *_rows(one, "", told)])


def _rows(kind: Any, prefix: str, told: Mapping[Any, str]) -> Iterator[str]:
    """Yield the rows of an object, each field followed by the fields below it; see `_format`."""
    fields = getattr(kind, "model_fields", {})
    for key, hint in typing.get_type_hints(kind, include_extras=True).items():
        if key.startswith("model_config"):
            continue
        name = getattr(fields.get(key), "alias", None) or key
        if typing.get_origin(hint) is NotRequired:
            (hint,) = typing.get_args(hint)
        own, *_, meaning = typing.get_args(hint)
        field = (
            f"{prefix}{name}".replace("*", "&#42;").replace(".", ".<wbr>").replace("_", "_<wbr>")
        )
        below, path = _below(own)
        if below in told:
            meaning = f"{meaning} {_same_as(told[below])}"
        yield f"| <code class='path'>{field}</code> | {_type(own)} | {cell(meaning)} |"
        if below is not None and below not in told:
            yield from _rows(below, f"{prefix}{name}{path}.", told)


def _below(kind: Any) -> tuple[Any, str]:
    """Return the object in a type and the path to it; None without one."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if hasattr(kind, "model_fields") or hasattr(kind, "__required_keys__"):
        return kind, ""
    if origin is typing.Annotated:
        return _below(inner[0])
    if origin is types.UnionType or origin is typing.Union:
        found = (_below(one) for one in inner)
        return next((one for one in found if one[0] is not None), (None, ""))
    if origin in (list, dict):
        below, path = _below(inner[-1])
        return below, ("[]" if origin is list else ".*") + path
    return None, ""


def _type(kind: Any) -> str:
    """Return a type in words."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _type(inner[0])
    if origin is types.UnionType or origin is typing.Union:
        return " or ".join(_type(one) for one in inner)
    if origin is typing.Literal:
        return ", ".join(f"`{one}`" for one in inner)
    if kind is type(None):
        return "null"
    if kind is Any:
        return "any"
    if origin is list:
        return f"list ({_type(inner[0])})" if inner[0] in _NAMES else "list"
    return _NAMES.get(kind, "object")
