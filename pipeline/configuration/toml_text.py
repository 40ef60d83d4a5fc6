"""Reads TOML files and says what is wrong with a file that is none."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from imgpipe.models.errors import ConfigError


def read(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: Path of the file.

    Returns:
        The tables of the file as nested dictionaries.

    Raises:
        ConfigError: The file cannot be read or is not TOML.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")  # Windows editors write a byte order mark
        return tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read config {path}: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start}).") from None
    except RecursionError:
        raise ConfigError(f"{path}: brackets are nested too deeply.") from None
    except ValueError as error:  # no TOML, or a number with more than 4,300 digits
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None
