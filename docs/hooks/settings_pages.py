"""The reference of the settings and of the checks, from the schema of the configuration."""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterator
from typing import Any

from command_pages import cell

HEADING = """# Settings

This page is generated from the schema of the configuration: each setting with its default, its
limits and its meaning. A setting is named `section.key`. It is set in a TOML file,

```toml
[evaluate]
threshold = 0.95
```

or for one run with `--set evaluate.threshold=0.95`. You need none of them for a first run:
`imgpipe init PHOTOS` writes a commented file. Unknown names are errors, and the message proposes
the most similar name.
"""
_COLUMNS = ("| setting | default | values | meaning |", "|---|---|---|---|")


def settings() -> str:
    """Return the page of all settings."""
    from imgpipe.pipeline.configuration.config import all_fields
    from imgpipe.pipeline.configuration.given_settings import about_section

    rows: dict[str, list[str]] = {}
    for name, info in all_fields().items():
        section, _, key = name.rpartition(".")
        anchor = f'<span id="{name}"></span>'
        cells = (f"{anchor}`{key}`", _default(info), _values(info), cell(info.description))
        rows.setdefault(section, []).append(f"| {' | '.join(cells)} |")
    parts = [HEADING]
    for section, lines in rows.items():
        anchor = f'<span id="{section}"></span>' if "." in section else ""  # else of the heading
        parts += [f"## {anchor}`{section}`", cell(about_section(section))]
        parts.append("\n".join([*_COLUMNS, *lines]))
    return "\n\n".join(parts) + "\n"


def checks() -> str:
    """Return the page of all checks of images."""
    from imgpipe.components.image_filter.judge import checks as registry

    lines = [
        "# Checks of images",
        "",
        "This page is generated from the checks themselves, in the order in which they run. The "
        "severity says what happens to an image with the finding, and `judge.severity` changes it. "
        "[Images](../data.md) explains the severities.",
        "",
        "| check | what it finds | severity | may be | remedy |",
        "|---|---|---|---|---|",
    ]
    for check in registry.CHECKS:
        may_be = ", ".join(check.may_be) if len(check.may_be) > 1 else "–"
        row = (f"`{check.name}`", cell(check.finds), check.severity, may_be, cell(check.remedy))
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def _default(info: Any) -> str:
    value = info.get_default(call_default_factory=True)
    if info.is_required():
        return "required"
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`' if value else "empty"
    if isinstance(value, tuple | list | dict):
        return "empty" if not value else f"`{list(value)}`"
    return f"`{value}`"


def _values(info: Any) -> str:
    """Return the allowed values: the choices, or the type with its limits."""
    kind = info.annotation
    if typing.get_origin(kind) is typing.Annotated:  # of a check
        kind, info = kind.__origin__, kind.__metadata__[0]
    if typing.get_origin(kind) is typing.Literal:
        return ", ".join(f"`{one}`" for one in typing.get_args(kind))
    names = {int: "whole number", float: "number", str: "text", bool: "`true`, `false`"}
    if type(None) in typing.get_args(kind):
        kind = next(one for one in typing.get_args(kind) if one is not type(None))
    text = names.get(kind, "list" if typing.get_origin(kind) is tuple else "table")
    return ", ".join([text, *_limits(info)])


def _limits(info: Any) -> Iterator[str]:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    for limit in info.metadata:
        for attribute, sign in signs.items():
            value = getattr(limit, attribute, None)
            if value not in (None, sys.maxsize):
                yield f"{sign} {value:,}" if isinstance(value, int) else f"{sign} {value}"
