"""Writes settings and configurations as TOML, with a comment above each setting."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from imgpipe.models.settings.limits import declared
from imgpipe.pipeline.configuration.config import Config

#: Breaks the comments of a written file into lines, between words.
_COMMENT = textwrap.TextWrapper(100, initial_indent="# ", subsequent_indent="# ")
_COMMENT.break_long_words = _COMMENT.break_on_hyphens = False


def toml_value(value: Any) -> str:
    """Write a value as TOML: a number, a text, a path, a sequence or a mapping."""
    if isinstance(value, tuple | list):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if declared(value):
        value = {key: getattr(value, key) for key in declared(value)}
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(key)} = {toml_value(item)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    text = json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")  # the only character that JSON allows and TOML does not


def to_toml(config: Config, only: Collection[str] | None = None) -> str:
    """Write a configuration as TOML with comments.

    Args:
        config: The configuration to write.
        only: Settings to write, as `section.key`; None for all of them.

    Returns:
        A text that loads back to `config`, if the settings that it lacks have their defaults.
    """
    blocks = [_block(name, getattr(config, name), only) for name in Config.model_fields]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _block(name: str, section: Any, only: Collection[str] | None) -> str:
    """Text of a section and of the sections in it; "" if none of its settings is wanted."""
    heading = f"[{name}]  # {(type(section).__doc__ or '').strip().splitlines()[0]}"
    below = []
    lines = []
    for key, info in declared(section).items():
        value = getattr(section, key)
        if declared(value):
            below.append(_block(f"{name}.{key}", value, only))
        elif only is None or f"{name}.{key}" in only:
            lines += _COMMENT.wrap(info.description or "")
            example = (info.examples or [0.999])[0]
            # TOML has no null: a setting that is not set is written as a comment with an example.
            lines.append(
                f"# {key} = {example}" if value is None else f"{key} = {toml_value(value)}"
            )
    return "\n\n".join(filter(None, ["\n".join([heading, *lines]) if lines else "", *below]))
