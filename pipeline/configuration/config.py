"""Reads and validates the configuration; `given_settings.py` writes it.

The sections are declared in `models/settings/`, and the keys of two tables by the checks of images.
An unknown key is an error that names the most similar known key, so that a typo never leads to a
default without notice.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from imgpipe.components.example_gen.sources import absolute_spec
from imgpipe.components.image_filter.judge.checks import fields_of_checks
from imgpipe.models.backbones import presets
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.section import INPUT, OUTPUT, PLACE, describe, fields, flat, marked
from imgpipe.models.settings.settings import Settings

_SHOWN = 200  # most characters of a value in a message
WEIGHT_FILES = (".h5", ".keras")


def absolute(settings: Settings) -> Settings:
    """Return the same settings with absolute paths, which do not depend on a folder."""
    names = marked(Settings, INPUT, OUTPUT, PLACE)
    paths = _absolute_paths(settings.model_dump(), names, Path.cwd())
    return build(settings.model_dump(exclude_unset=True), paths)


def put(tree: dict[str, object], name: str, value: object) -> None:
    """Set the value of a name such as `course.epochs` in nested tables.

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


def all_fields() -> dict[str, FieldInfo]:
    """Return all settings by `section.key`, in order, with those that the checks declare."""
    every: dict[str, FieldInfo] = {}
    of_checks = fields_of_checks()
    for name, field in fields(Settings):
        below = {key: info for key, info in of_checks.items() if key.startswith(f"{name}.")}
        every |= below or {name: field}
    return every


def unknown(key: str) -> str:
    """Return a sentence about an unknown key, with the known key that is most similar."""
    keys = list(all_fields())
    inside = [name for name in keys if name.startswith(f"{key}.")]
    if inside:
        return f"{key!r} is a section; expected one of its keys, such as {inside[0]!r}."

    def similarity(candidate: str) -> float:
        last = key.rpartition(".")[2], candidate.rpartition(".")[2]
        pairs = ((key, candidate), last)
        return max(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)

    best = max([*Settings.model_fields, *keys], key=similarity)
    if similarity(best) >= 0.6:  # difflib's own cutoff for close matches
        return f"unknown key {key!r}; did you mean {best!r}?"
    return f"unknown key {key!r}; known sections: {', '.join(Settings.model_fields)}"


def _explained(error: ValidationError) -> list[str]:
    """Return one line for each problem: key, expected and received value."""
    by_key = all_fields()
    lines = []
    for problem in error.errors():
        key = ".".join(map(str, problem["loc"]))
        if key in fields_of_checks():
            continue  # `_wrong_checks` says more
        if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            lines.append(unknown(key))
            continue
        if problem["type"] == "string_pattern_mismatch" and key in by_key:
            # Instead of the regular expression, which few people read.
            expected = (by_key[key].description or "").split(". ")[0].removesuffix(".")
            problem["msg"] = f"Expected: {expected}"
        lines.append(f"{describe(problem, _SHOWN)}.")
    return lines


def _wrong_checks(tree: Mapping[str, Any]) -> list[str]:
    """Return one line for each setting of a check that is unknown or has a wrong value."""
    of_checks = fields_of_checks()
    lines = []
    for table in ("severity", "threshold"):
        given = tree.get("judge", {}).get(table)
        for check, value in given.items() if isinstance(given, dict) else ():
            name = f"judge.{table}.{check}"
            if name not in of_checks:
                lines.append(unknown(name))
                continue
            try:
                TypeAdapter(of_checks[name].annotation or str).validate_python(value)
            except ValidationError as error:
                lines += [f"{name}: {describe(each, _SHOWN)}." for each in error.errors()]
    return lines


def _without_usual(tree: Mapping[str, Any]) -> None:
    """Remove the settings of checks that have their usual values, so that a choice has one form."""
    for name, field in fields_of_checks().items():
        _, table, check = name.split(".")
        given = tree.get("judge", {}).get(table)
        if isinstance(given, dict) and given.get(check) == field.default:
            del given[check]


def build(
    tree: Mapping[str, object],
    given: Mapping[str, object] | None = None,
    where: str = "config",
) -> Settings:
    """Validate a nested mapping, with other values of some settings.

    Args:
        tree: Sections and settings by name.
        given: Values by `section.key`, which replace those of the mapping.
        where: Name of the mapping in messages, such as the path of a file.

    Returns:
        The validated configuration.

    Raises:
        ConfigError: A key is unknown or a value is wrong. The message names all that are wrong in
            the mapping, or, if nothing is, all that are wrong with the values of `given`.
    """
    # A deep copy through JSON, in which TOML's dates are texts; no setting is a date.
    copy: dict[str, object] = json.loads(json.dumps(tree, default=str))
    for section, value in copy.items():
        if section in Settings.model_fields and not isinstance(value, dict):
            raise ConfigError(
                f"{where}: {section!r} is a section: write [{section}] with keys below it. "
                f"Received: {value!r}."
            )
    for name, value in (given or {}).items():
        put(copy, name, value)
    wrong = _wrong_checks(copy)
    _without_usual(copy)
    try:
        settings = Settings.model_validate(copy)
    except ValidationError as error:
        wrong = [*_explained(error), *wrong]
    if wrong:
        if given:
            build(tree, where=where)
            where = "arguments"
        raise ConfigError(f"{where}: " + "\n".join(wrong))
    return settings


def load(path: Path, given: Mapping[str, object] | None = None) -> Settings:
    """Read a TOML file.

    Relative paths of inputs, which are those in `[data]`, `model.weights`, `judge.overrides` and
    the folder of a preset in `model.backbone`, are relative to the folder of the file.

    Args:
        path: The TOML file.
        given: Values by `section.key`, which replace those of the file.

    Returns:
        The validated configuration.

    Raises:
        ConfigError: The file is missing, is not TOML or does not validate.
    """
    tree = _read(path)
    paths = _absolute_paths(tree, marked(Settings, INPUT, PLACE), path.absolute().parent)
    for name, value in paths.items():
        put(tree, name, value)
    return build(tree, given, str(path))


def _absolute_paths(
    tree: Mapping[str, object], names: Iterable[str], folder: Path
) -> dict[str, str]:
    """Return the settings `names`, and weights and backbone if they are paths, as absolute paths.

    Values of `tree` may be missing or have a wrong type; empty ones stay empty, to follow
    `run.out`. Relative paths start at `folder`.
    """
    values = {name: value for name, value in flat(tree) if isinstance(value, str)}
    paths = {name: absolute_spec(values[name], folder) for name in names if values.get(name)}
    weights = values.get("model.weights", "")
    if weights.endswith(WEIGHT_FILES):
        paths["model.weights"] = absolute_spec(weights, folder)
    preset = presets.folder_of(values.get("model.backbone", ""))
    if preset:
        paths["model.backbone"] = presets.PREFIX + absolute_spec(preset, folder)
    return paths


def _read(path: Path) -> dict[str, object]:
    try:
        text = path.read_bytes().decode("utf-8-sig")  # Windows editors write a byte order mark
        return tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read config {path}: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start}).") from None
    except (ValueError, RecursionError) as error:  # the parser calls itself for each bracket
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None
