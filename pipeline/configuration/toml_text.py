"""Reads TOML files within limits.

`tomllib` takes minutes for a key with 50,000 parts and does not limit nesting. A configuration has
a few kilobytes and three levels, so anything beyond these limits is reported as a mistake.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from imgpipe.models.errors import ConfigError

MOST_BYTES = 256 << 10  # size of a file; the longest preset has 4 KiB
_MOST_DOTS = 100  # dots in one word; `tomllib` takes quadratic time in the parts of a key
_MOST_LEVELS = 8  # levels of tables and lists; the configuration has three
_MOST_CHARACTERS = 4096  # length of a value; Linux accepts no longer path


def read(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: Path of the file.

    Returns:
        The tables of the file as nested dictionaries.

    Raises:
        ConfigError: The file cannot be read, is not TOML or exceeds a limit.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)  # not `stat`, since a device or pipe has no size
        if len(content) > MOST_BYTES:
            raise ConfigError(
                f"{path} has more than {MOST_BYTES:,} bytes; expected a configuration of some "
                "kilobytes."
            )
        text = content.decode("utf-8-sig")  # editors on Windows write a byte order mark
    except OSError as error:
        raise ConfigError(f"cannot read config {path}: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start}).") from None
    try:
        tree = parse(text)
        check(tree)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}.") from None
    return tree


def parse(text: str) -> dict[str, Any]:
    """Parse TOML text.

    Args:
        text: The text.

    Returns:
        Its tables as nested dictionaries.

    Raises:
        TOMLDecodeError: The text is not TOML.
        ValueError: Keys, brackets or numbers exceed a limit, which the message names.
    """
    # TOML allows spaces around the dots of a key. Texts and comments may hold any number.
    keys = re.sub(r"#.*", "", re.sub(r"'[^'\n]*'|\"(?:[^\"\\\n]|\\.)*\"", "''", text))
    words = re.sub(r"[ \t]*\.[ \t]*", ".", keys).split()
    if any(word.count(".") > _MOST_DOTS for word in words):
        raise ValueError(f"a key with more than {_MOST_DOTS} dots; expected section.key")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("brackets are nested too deeply") from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:  # Python reads integers of at most 4,300 digits
        raise ValueError("a number with thousands of digits") from None


def check(tree: Mapping[str, Any]) -> None:
    """Check the limits of values.

    Args:
        tree: Nested tables.

    Raises:
        ValueError: A value is nested too deeply, is too long or has a NUL character. The message
            names its key.
    """
    for key, value, level in _walk(tree):
        if level > _MOST_LEVELS:
            raise ValueError(f"{key!r} is nested in more than {_MOST_LEVELS} levels")
        if isinstance(value, str) and "\0" in value:
            raise ValueError(f"{key!r} holds a NUL character, which no name or path has")
        if isinstance(value, str) and len(value) > _MOST_CHARACTERS:
            raise ValueError(
                f"{key!r} has {len(value):,} characters; expected {_MOST_CHARACTERS:,} at most"
            )


def _walk(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any, int]]:
    """Yield the key, value and level of every value in a tree, without recursion."""
    pending: list[tuple[str, Any, int]] = [(str(key), value, 1) for key, value in tree.items()]
    while pending:
        key, value, level = pending.pop()
        yield key[:100], value, level
        if level > _MOST_LEVELS:
            continue
        if isinstance(value, Mapping):
            pending += [(f"{key}.{name}", below, level + 1) for name, below in value.items()]
        elif isinstance(value, list | tuple):
            pending += [(key, below, level + 1) for below in value]
