"""The file that ``--json`` names, and where messages for people go beside it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from imgpipe.models.atomic_write import atomic_write
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.terminal import new_console

STANDARD_OUTPUT = "-"


def check_folder(option: str, target: str | Path | None) -> None:
    """Refuse a file whose folder does not exist, before any work is done for it.

    Args:
      option: name of the option, for the message.
      target: its value; None and ``-`` are always accepted.

    Raises:
      ConfigError: the folder does not exist.
    """
    if target in (None, STANDARD_OUTPUT) or Path(str(target)).absolute().parent.is_dir():
        return
    raise ConfigError(f"{option} {target}: its folder does not exist.")


def console_beside(target: str | None) -> Console:
    """A console for people's text: standard error where standard output carries the JSON."""
    return new_console(stderr=target == STANDARD_OUTPUT)


def write(content: Mapping[str, Any], target: str) -> None:
    """Write `content` to a file, or to standard output for ``-``.

    Raises:
      ResourceError: the file cannot be written.
    """
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    encoding = sys.stdout.encoding if target == STANDARD_OUTPUT else "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:  # a file name that is not UTF-8, or a terminal that shows less
        text = json.dumps(content, indent=1) + "\n"
    if target == STANDARD_OUTPUT:
        sys.stdout.write(text)
        return
    try:
        atomic_write(Path(target), text)
    except OSError as error:
        raise ResourceError(f"cannot write --json {target}: {error.strerror}.") from None
