"""Makes values of declared results for tests, so that no test knows a field that does not exist."""

import functools
import types
import typing
from typing import Any

from pydantic import TypeAdapter
from typing_extensions import get_type_hints, is_typeddict


def made(declaration: Any, **values: Any) -> Any:
    """Return a value of a TypedDict, such as `Decision`, with some fields of these values.

    The others have the simplest values. A value of another type is a ValidationError.
    """
    hints = _hints(declaration)
    unknown = values.keys() - hints.keys()
    assert not unknown, f"{declaration.__name__} declares no {', '.join(sorted(unknown))}"
    value = {name: values[name] if name in values else _simplest(hints[name]) for name in hints}
    _adapter(declaration).validate_python(value, strict=True)
    return value


_hints = functools.cache(get_type_hints)
_adapter = functools.cache(TypeAdapter)  # to make it takes a millisecond


def _simplest(hint: Any) -> Any:
    """Return the simplest value of a type: None, 0, "", an empty collection, or such fields."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return None if type(None) in arguments else _simplest(arguments[0])
    if origin is typing.Literal:
        return arguments[0]
    if is_typeddict(hint):
        return made(hint)
    return (origin or hint)()
