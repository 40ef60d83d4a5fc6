"""Settings by their full name, ``section.key``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from imgpipe.models.errors import ConfigError


def flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested tables with their names, such as ``("train.epochs", 30)``."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def put(tree: dict[str, Any], name: str, value: Any) -> None:
    """Set the value of a name such as ``train.epochs`` in nested tables.

    Raises:
        ConfigError: A section of the name is not a table.
    """
    *sections, key = name.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{section!r} is a section with keys below it. Received: {tree!r}.")
    tree[key] = value
