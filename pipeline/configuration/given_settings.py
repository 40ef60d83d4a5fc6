"""The settings that people give: a file or a preset, `--set`, Python; and how TOML holds them."""

from __future__ import annotations

import functools
import json
import os
import shlex
import textwrap
import tomllib
from collections.abc import Collection, Iterable, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from imgpipe.components.example_gen.sources import absolute_spec
from imgpipe.models.errors import ConfigError, nearest
from imgpipe.models.settings.course import StageSettings, ViewSpec
from imgpipe.models.settings.section import changed, declared
from imgpipe.models.settings.settings import Settings
from imgpipe.pipeline.configuration.config import all_fields, build, load, unknown

#: Breaks the comments of a written file into lines, between words.
_COMMENT = textwrap.TextWrapper(100, initial_indent="# ", subsequent_indent="# ")
_COMMENT.break_long_words = _COMMENT.break_on_hyphens = False


def preset_folder() -> Traversable:
    """Return the folder of the presets' files."""
    return resources.files("imgpipe.pipeline") / "presets"


def presets() -> list[str]:
    """Return the names of the presets."""
    files = preset_folder().iterdir()
    return sorted(Path(p.name).stem for p in files if p.name.endswith(".toml"))


def one_source(config: str | None, preset: str | None) -> str | None:
    """Return the file or the preset that the options name.

    Raises:
        ConfigError: They name both.
    """
    if config is not None and preset is not None:
        raise ConfigError(
            "--config and --preset do not go together: both say where settings come from. Copy the "
            f"preset, which lies in {preset_folder()}, and change the copy."
        )
    return config if preset is None else preset


def configuration(
    source: str | None,
    data: str | None,
    out: Path | None,
    given: Mapping[str, object],
) -> Settings:
    """Build the configuration of a command.

    Args:
        source: TOML file or name of a preset; None for the defaults.
        data: Source of the images, None for that of the configuration.
        out: Output folder, None for that of the configuration.
        given: Values of other settings by `section.key`, from `assigned` or `named`.

    Raises:
        ConfigError: There is no such file or preset, or a setting is wrong.
    """
    values = dict(given)
    if data is not None:
        if not data.strip():
            raise ConfigError(
                "The source of the images is empty; expected a folder or another source. "
                "For the current folder use: ."
            )
        if data.endswith(".toml") and not os.path.isdir(data):  # noqa: PTH112 (see below)
            raise ConfigError(
                f"{data} is named like a configuration, expected a source of images. For its "
                f"settings: imgpipe run --config {shlex.quote(data)}"
            )
        values["data.source"] = absolute_spec(data, Path.cwd())
    if out is not None:
        values["run.out"] = str(out)
    if source is None:
        return build({}, values)
    path = Path(source)
    # Unlike the methods of Path, these functions raise no error where a folder may not be read.
    if os.path.isdir(path):  # noqa: PTH112
        raise ConfigError(
            f"{source} is a folder, expected a TOML file or a preset. For its images: "
            f"imgpipe run {shlex.quote(source)}"
        )
    # A missing .toml file is reported as such, and not as an unknown preset. A pipe is a file too.
    if path.suffix == ".toml" or os.path.exists(path):  # noqa: PTH110
        return load(path, values)
    names = presets()
    if source not in names:
        raise ConfigError(
            f"there is no configuration file and no preset named {source!r}"
            f"{nearest(source, names)}. The presets in {preset_folder()}: {', '.join(names)}."
        )
    preset = preset_folder() / f"{source}.toml"
    with resources.as_file(preset) as file:  # a package may lie in an archive
        return load(file, values)


def assigned(assignments: Iterable[str]) -> dict[str, object]:
    """Return the settings of `--set a.b=v`, in which `v` is a TOML value or a plain text.

    Raises:
        ConfigError: There is no setting of a name, or a text has quotes and is no TOML.
    """
    by_key = all_fields()
    values: dict[str, object] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ConfigError(f"--set takes section.key=value. Received: {assignment!r}.")
        if key not in by_key:
            raise ConfigError(f"--set {assignment}: {unknown(key)}")
        values[key] = _value(assignment, text)
        if not isinstance(values[key], str) and by_key[key].annotation is str:
            values[key] = text.strip()  # such as --set data.label_column=0
    return values


def _value(assignment: str, text: str) -> object:
    """Return the value that a text of `--set` means."""
    try:
        value: object = tomllib.loads(f"v = {text}")["v"]
        return value
    # A text without quotes, such as --set run.name=flowers; or more brackets than Python's stack.
    except (ValueError, RecursionError):
        plain = text.strip()
        quote = plain[:1]
        if quote in ('"', "'") and plain.endswith(quote) and plain.count(quote) == 2:
            raise ConfigError(
                f"--set {assignment}: the value in quotes is not valid TOML. Use single "
                "quotes, in which a backslash stands for itself, or no quotes at all."
            ) from None
        return plain


def named(settings: Mapping[str, Any]) -> dict[str, object]:
    """Return settings that are given in Python by `section.key`.

    Args:
        settings: Values by `section.key`, or mappings of the keys of a section by its name.

    Raises:
        ConfigError: There is no setting of a name, or a value is of a type that no setting has.
    """
    by_key = all_fields()
    values: dict[str, object] = {}
    for name, value in settings.items():
        if name in by_key:
            plain = _plain(name, value)
            is_text = by_key[name].annotation is str and not isinstance(plain, str)
            values[name] = json.dumps(plain) if is_text else plain  # such as label_column=0
        elif isinstance(value, Mapping):
            values |= named({f"{name}.{key}": inner for key, inner in value.items()})
        else:
            raise ConfigError(
                f"{unknown(name)} Settings are given by section, such as "
                f"evaluate={{'threshold': 0.95}}. Received: {name}={value!r}."
            )
    return values


def _plain(name: str, value: Any) -> object:
    """Return the value of a setting as JSON has it, also of a path."""

    def of_others(given: Any) -> object:
        if isinstance(given, Path):
            return str(given)
        if not declared(given):
            raise TypeError
        return {key: getattr(given, key) for key in declared(given)}

    try:
        if value is not None:  # TOML has no null
            return json.loads(json.dumps(value, default=of_others))
    except TypeError:
        pass
    raise ConfigError(
        f"{name}: expected a number, a text, a path or a list of them; leave the setting out for "
        f"its default. Received: {value!r}."
    )


def to_toml(config: Settings, only: Collection[str] | None = None) -> str:
    """Write a configuration as TOML with comments.

    Args:
        config: The configuration to write.
        only: Settings to write, as `section.key`; None for all of them.

    Returns:
        A text that loads back to `config`, if the settings that it lacks have their defaults.
    """
    values = config.model_dump(mode="json")
    if not config.has_threshold:
        values["evaluate"]["threshold"] = None
    by_section: dict[str, list[str]] = {}
    for name, info in all_fields().items():
        if only is None or name in only:
            section, _, key = name.rpartition(".")
            value = functools.reduce(lambda table, part: table[part], section.split("."), values)
            lines = by_section.setdefault(section, [f"[{section}]  # {about_section(section)}"])
            lines += _COMMENT.wrap(info.description or "")
            lines.append(_assignment(key, value.get(key, info.default), info))
    return "\n\n".join("\n".join(lines) for lines in by_section.values()) + "\n"


def about_section(section: str) -> str:
    """Return what a section is about, in a line."""
    described: Any = Settings
    for name in section.split("."):
        field = declared(described)[name]
        described = field.annotation if declared(field.annotation) else field
    text = described.description if isinstance(described, FieldInfo) else described.__doc__
    return str(text).strip().splitlines()[0]


def _assignment(key: str, value: Any, info: FieldInfo) -> str:
    """Return the line of a setting; as TOML has no null, a comment for one that is not set."""
    if value is None:
        return f"# {key} = {(info.examples or [0.999])[0]}"
    return f"{key} = {_toml(value)}"


def _toml(value: Any) -> str:
    """Write a value that JSON has as TOML."""
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")  # the only character that JSON allows and TOML does not


def without_effect(config: Settings) -> list[str]:
    """Return a sentence for each setting that somebody gave and that does nothing beside others.

    Combinations that would give another model than the one that was asked for are refused by
    `Settings`. The settings here are mentioned, and the run goes on.
    """
    given = changed(config)
    fine_tune = config.course.fine_tune
    reasons: dict[str, str] = {}
    if config.solved:
        solved = 'the head is solved. Set course.optimizer = "adam" to train it by epochs'
        reasons |= {f"course.{name}": solved for name in declared(StageSettings)}
    if config.views.builder:
        own = "course.views.builder makes the views"
        made_by_settings = declared(ViewSpec).keys() - {"count", "builder"}
        reasons |= {f"course.views.{name}": own for name in made_by_settings}
    if not config.views.count:
        none = "course.views.count is 0, so that no image is augmented"
        reasons |= {f"course.views.{name}": none for name in declared(ViewSpec)}
        del reasons["course.views.count"]
    if not config.frozen:
        reasons["bank.budget"] = "all layers are trained, so that no features are stored"
    if not config.searches:
        if config.train.minutes != 0:  # which asks for no search
            reasons["train.minutes"] = "no better network is looked for beside the other settings"
        if fine_tune.mode != "on":
            head = "only the head is trained beside the other settings"
            of_stage = [*declared(StageSettings), "cut"]
            reasons |= {f"course.fine_tune.{name}": head for name in of_stage}
    return [f"{name} has no effect: {why}." for name, why in reasons.items() if name in given]
