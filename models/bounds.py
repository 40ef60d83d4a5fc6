"""Settings that carry their own limits and description.

A frozen dataclass states each setting once, with `bounded` or `chosen`; `check` holds its values to
that wherever it is made, and the configuration's section of the same name is built from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, fields
from typing import Any

from imgpipe.models.errors import ConfigError


def bounded(default: float, about: str, low: float, high: float) -> Any:
    """Returns a field for a number from `low` to `high`; an integer if `default` is one."""
    return field(default=default, metadata={"about": about, "low": low, "high": high})


def chosen(default: str, about: str, of: Sequence[str]) -> Any:
    """Returns a dataclass field for one of several strings."""
    return field(default=default, metadata={"about": about, "of": tuple(of)})


def switch(default: bool, about: str) -> Any:
    """Returns a dataclass field for true or false."""
    return field(default=default, metadata={"about": about})


def text(default: str, about: str) -> Any:
    """Returns a dataclass field for any string."""
    return field(default=default, metadata={"about": about})


def check(section: str, settings: Any, kind: type | None = None) -> None:
    """Checks each field of a dataclass, or those of its base `kind`, against its own limits.

    Raises:
        ConfigError: A value is outside its limits or of another type. The message names it as
            ``section.field``.
    """
    for one in fields(kind or settings):
        value = getattr(settings, one.name)
        expected = _objection(value, one.default, one.metadata)
        if expected:
            raise ConfigError(f"{section}.{one.name}: expected {expected}. Received: {value!r}")


def _objection(value: Any, default: Any, limits: Any) -> str:
    """Returns what was expected instead of `value`, or "" when it is valid."""
    if "of" in limits:
        return "" if value in limits["of"] else f"one of {', '.join(limits['of'])}"
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(default, str):
        return "" if isinstance(value, str) else "text"
    low, high = limits["low"], limits["high"]
    whole = isinstance(default, int)
    number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if number and low <= value <= high:  # false for NaN
        return ""
    return f"{'a whole number from ' if whole else ''}{low:g} to {high:g}"
