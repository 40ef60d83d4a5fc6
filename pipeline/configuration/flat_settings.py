"""Settings by their full name, ``section.key``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from imgpipe.models.errors import ConfigError

if TYPE_CHECKING:
    from imgpipe.pipeline.configuration.config_schema import SettingsSection

#: Settings that say where results are written or stored. They do not change the model.
OUTPUT_SETTINGS = frozenset({"run.out", "push.directory", "bank.store", "judge.store"})


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


def changed(config: SettingsSection) -> dict[str, Any]:
    """Return the settings that differ from their defaults, except those in `OUTPUT_SETTINGS`."""
    found = flat(config.model_dump(mode="json", exclude_defaults=True))
    return {name: value for name, value in found if name not in OUTPUT_SETTINGS}
