"""The version of JSON formats, and reading and writing JSON files.

A damaged file raises a ValueError, which every caller turns into a message.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final

from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.models.files.regular_files import read_bytes

#: Version of the JSON that commands write. It rises when the meaning of a field changes; a format
#: that has another version says so where it is declared.
SCHEMA: Final = 1
SchemaNumber = Annotated[int, f"Version of this format, {SCHEMA}."]
_LARGEST: Final = 1 << 30  # bytes; the records of a run with a million images are smaller


def write(path: Path, content: object) -> None:
    """Write a JSON file as `atomic_write` does, for people and programs.

    Raises:
        OSError: The file cannot be written.
    """
    atomic_write(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        OSError: The file cannot be read, or is not a regular file.
        ValueError: It holds no JSON object; the message says what is wrong.
    """
    return parse(read_bytes(path, _LARGEST).decode())


def read_or_empty(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; an empty one if there is none, or it is damaged."""
    try:
        return read(path)
    except (OSError, ValueError):
        return {}


def parse(text: str) -> dict[str, Any]:
    """Parse the text of a JSON object.

    Raises:
        ValueError: It is no JSON object; the message says what is wrong.
    """
    try:
        value = json.loads(text)
    except RecursionError:  # json's parser calls itself for each bracket
        raise ValueError("its values are nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, received {type(value).__name__}")
    return value
