"""Writes the file that ``--json`` names."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.pipeline.command_line import standard_streams
from imgpipe.pipeline.command_line.terminal import new_console

STANDARD_OUTPUT = "-"


def check_folder(option: str, target: str | Path | None) -> None:
    """Refuse a file whose folder does not exist, before any work is done.

    Args:
      option: Name of the option, for the message.
      target: Value of the option; None and ``-`` are always accepted.

    Raises:
      ConfigError: The folder does not exist.
    """
    if target in (None, STANDARD_OUTPUT) or Path(str(target)).absolute().parent.is_dir():
        return
    raise ConfigError(f"{option} {target}: its folder does not exist.")


def console_beside(target: str | None) -> Console:
    """Return a console for messages, on standard error if standard output carries the JSON.

    Args:
      target: Value of ``--json``.
    """
    return new_console(stderr=target == STANDARD_OUTPUT)


def write(content: Mapping[str, Any], target: str) -> None:
    """Write JSON to a file, or to standard output.

    Args:
      content: The JSON object.
      target: Path of the file, or ``-`` for standard output.

    Raises:
      ResourceError: It cannot be written. A closed pipe on standard output is not an error.
    """
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    plain = target == STANDARD_OUTPUT and sys.stdout.encoding.lower() != "utf-8"
    try:
        text.encode()
    except UnicodeEncodeError:  # a file name that is not UTF-8
        plain = True
    if plain:  # JSON must be UTF-8, of which ASCII is a part in any terminal's encoding
        text = json.dumps(content, indent=1) + "\n"
    if target == STANDARD_OUTPUT:
        sys.stdout.write(text)
        sys.stdout.flush()
        error = standard_streams.failure(sys.stdout)
        if error is not None and error.errno != errno.EPIPE:
            raise ResourceError(f"cannot write to standard output: {error.strerror}.")
        return
    write_file(Path(target), text, "--json ")


def write_file(path: Path, content: str | bytes, option: str = "") -> None:
    """Write a file that a person asked for, atomically.

    Args:
      path: Path of the file.
      content: Its content.
      option: The option that named it and a space, for the message.

    Raises:
      ResourceError: The file cannot be written.
    """
    try:
        atomic_write(path, content)
    except OSError as error:
        why = error.strerror or error
        raise ResourceError(f"cannot write {option}{path}: {why}.") from None
