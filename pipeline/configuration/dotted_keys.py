"""Dotted keys, such as `train.epochs`, of settings and of values in nested tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic.fields import FieldInfo

from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.limits import declared


def flat(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested tables with their names, such as `("train.epochs", 30)`."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def put(tree: dict[str, object], name: str, value: object) -> None:
    """Set the value of a name such as `train.epochs` in nested tables.

    Raises:
        ConfigError: A section of the name is not a table.
    """
    *tables, key = name.split(".")
    for table in tables:
        below = tree.setdefault(table, {})
        if not isinstance(below, dict):
            raise ConfigError(f"{table!r} is a section with keys below it. Received: {below!r}.")
        tree = below
    tree[key] = value


def fields(section: Any, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield all settings below a section with their dotted keys, in the order of declaration."""
    for name, field in declared(section).items():
        if declared(field.annotation):
            yield from fields(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field
