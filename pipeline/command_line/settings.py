"""Builds the configuration from the arguments of a command."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from imgpipe.components.example_gen.sources import absolute_spec
from imgpipe.models.errors import ConfigError, nearest
from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.configuration import toml_text


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
    settings: Sequence[str],
) -> configs.Config:
    """Build the configuration of a command.

    Args:
        source: TOML file or name of a preset; None for the defaults.
        data: Source of the images, None for that of the configuration.
        out: Output folder, None for that of the configuration.
        settings: Overrides as `SECTION.KEY=VALUE`.

    Raises:
        ConfigError: There is no such file or preset, or a setting is wrong.
    """
    extra = list(settings)
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
        extra.append(f"data.source={_quoted(absolute_spec(data, Path.cwd()))}")
    if out is not None:
        extra.append(f"run.out={_quoted(str(out))}")
    if source is None:
        return configs.build({}, extra)
    path = Path(source)
    # Unlike the methods of Path, these functions raise no error where a folder may not be read.
    if os.path.isdir(path):  # noqa: PTH112
        raise ConfigError(
            f"{source} is a folder, expected a TOML file or a preset. For its images: "
            f"imgpipe run {shlex.quote(source)}"
        )
    # A missing .toml file is reported as such, and not as an unknown preset. A pipe is a file too.
    if path.suffix == ".toml" or os.path.exists(path):  # noqa: PTH110
        return configs.load(path, extra)
    names = presets()
    if source not in names:
        raise ConfigError(
            f"there is no configuration file and no preset named {source!r}"
            f"{nearest(source, names)}. The presets in {preset_folder()}: {', '.join(names)}."
        )
    preset = preset_folder() / f"{source}.toml"
    with resources.as_file(preset) as file:  # a package may lie in an archive
        return configs.load(file, extra)


def assignments(settings: Mapping[str, Any]) -> list[str]:
    """Write settings that are given in Python as `--set` takes them: `SECTION.KEY=VALUE`.

    Args:
        settings: Values by `section.key`, or mappings of the keys of a section by its name.

    Raises:
        ConfigError: There is no setting of a name, or a value is of a type that no setting has.
    """
    keys = set(configs.known_keys())
    assigned: list[str] = []
    for name, value in settings.items():
        if name in keys:
            assigned.append(f"{name}={_toml(name, value)}")
        elif isinstance(value, Mapping):
            assigned += assignments({f"{name}.{key}": inner for key, inner in value.items()})
        else:
            raise ConfigError(
                f"{configs.unknown(name)} Settings are given by section, such as "
                f"evaluate={{'threshold': 0.95}}. Received: {name}={value!r}."
            )
    return assigned


def _toml(name: str, value: Any) -> str:
    """Write the value of a setting as TOML; NumPy's numbers and arrays are written as Python's."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    try:
        if plain is not None:  # TOML has no null
            return toml_text.toml_value(plain)
    except TypeError:
        pass
    raise ConfigError(
        f"{name}: expected a number, a text, a path or a list of them; leave the setting out for "
        f"its default. Received: {value!r}."
    )


def _quoted(text: str) -> str:
    """Return a TOML string; TOML and JSON have the same escapes."""
    return json.dumps(text, ensure_ascii=False)
