"""TOML from a person, read within bounds.

`tomllib` takes minutes for a key of 50,000 parts, and nests without a limit. A configuration is a
few kilobytes with three levels, so that everything beyond these bounds is a mistake and is named.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from imgpipe.models.errors import ConfigError

MOST_BYTES = 256 << 10  # of a file; the longest preset has 4 KiB
_MOST_DOTS = 100  # in one word; `tomllib` takes quadratic time for the parts of a key
_MOST_LEVELS = 8  # of tables and lists; the configuration has three
_MOST_CHARACTERS = 4096  # of a value: the longest path that Linux takes


def read(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
      ConfigError: the file cannot be read, is not TOML or is beyond the bounds.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ConfigError(
                f"{path} has more than {MOST_BYTES:,} bytes; expected a configuration of some "
                "kilobytes."
            )
        text = content.decode()
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

    Raises:
      TOMLDecodeError: it is not TOML.
      ValueError: keys, brackets or numbers are beyond the bounds; the message says which.
    """
    words = re.sub(r"[ \t]*\.[ \t]*", ".", text).split()
    if any(word.count(".") > _MOST_DOTS for word in words):
        raise ValueError(f"a key with more than {_MOST_DOTS} dots; expected section.key")
    try:
        tree = tomllib.loads(text)
    except RecursionError:
        raise ValueError("brackets are nested too deeply") from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:  # Python reads whole numbers of 4,300 digits at most
        raise ValueError("a number with thousands of digits") from None
    return tree


def check(tree: Mapping[str, Any]) -> None:
    """Refuse values that no setting can have.

    Raises:
      ValueError: nesting, length of a value or a NUL character; the message names the key.
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
    """Name of the key, value and level of everything in a tree, without recursion."""
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
