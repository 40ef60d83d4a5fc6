"""A configuration as TOML, and its settings that have no effect."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from imgpipe.models.settings.limits import declared
from imgpipe.models.settings.network import ViewSpec
from imgpipe.pipeline.configuration.config import Config, changed

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


#: Settings of a training by epochs, in [train] and in [fine_tune].
_BY_EPOCHS = ("epochs", "learning_rate", "schedule", "batch_size", "patience")


def without_effect(config: Config) -> list[str]:
    """Return a sentence for each setting that somebody gave and that does nothing beside others.

    Combinations that would give another model than the one that was asked for are refused by
    `Config`. The settings here are mentioned, and the run goes on.
    """
    settings = config.settings
    given = changed(config)
    reasons: dict[str, str] = {}
    if settings.solved:
        solved = 'the head is solved. Set train.optimizer = "adam" to train it by epochs'
        reasons |= {f"train.{name}": solved for name in _BY_EPOCHS}
    if settings.views.builder:
        own = "views.builder makes the views"
        made_by_settings = {field.name for field in fields(ViewSpec)} - {"count", "builder"}
        reasons |= {f"views.{name}": own for name in made_by_settings}
    if not settings.views.count:
        none = "views.count is 0, so that no image is augmented"
        reasons |= {f"views.{field.name}": none for field in fields(ViewSpec)}
        del reasons["views.count"]
    if not settings.frozen:
        reasons["bank.budget"] = "all layers are trained, so that no features are stored"
    if not settings.searches:
        if settings.minutes != 0:  # which asks for no search
            reasons["train.minutes"] = "no better network is looked for beside the other settings"
        if settings.fine_tune.mode != "on":
            head = "only the head is trained beside the other settings"
            reasons |= {f"fine_tune.{name}": head for name in (*_BY_EPOCHS, "cut")}
    return [f"{name} has no effect: {why}." for name, why in reasons.items() if name in given]
