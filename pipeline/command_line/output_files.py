"""The files that a command writes, and the browser that shows one."""

from __future__ import annotations

import errno
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.models.machine.system import has_display
from imgpipe.pipeline.command_line import command_process
from imgpipe.pipeline.command_line.terminal import new_console, say

if TYPE_CHECKING:
    from rich.console import Console

#: Value of an option for a file that stands for standard output.
STANDARD_OUTPUT = "-"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # of a bucket or a web page


def show(address: str, console: Console) -> None:
    """Open the address of a page in a browser; say so when there is none."""
    import webbrowser

    # Without a display, `webbrowser` would start a browser in the terminal.
    if not has_display() or not webbrowser.open(address):
        say(console, "No browser was found here. Open the page in one.")


def console_beside(json_file: str | None) -> Console:
    """Return a console for messages, on standard error if standard output carries the JSON."""
    return new_console(stderr=json_file == STANDARD_OUTPUT)


def write_json(content: Mapping[str, Any] | Sequence[Any], json_file: str | None) -> None:
    """Write the JSON object or list to the file that `--json` names, if there is one.

    Args:
        content: The JSON object or list.
        json_file: Value of `--json`: a path, `-` for standard output, or None.

    Raises:
        ResourceError: It cannot be written. A closed pipe on standard output is not an error.
    """
    if not json_file:
        return
    # JSON must be UTF-8, of which ASCII is a part in any terminal's encoding.
    plain = json_file == STANDARD_OUTPUT and sys.stdout.encoding.lower() != "utf-8"
    _hand_over(json.dumps(content, indent=1, ensure_ascii=plain) + "\n", json_file, "--json ")


def write_csv(text: str, csv_file: str | None) -> None:
    """Write a table to the file that `--csv` names, if there is one; see `write_json`."""
    # The mark at the start tells spreadsheets that the file is UTF-8.
    mark = "" if csv_file == STANDARD_OUTPUT else "\ufeff"
    _hand_over(f"{mark}{text}", csv_file, "--csv ")


def _hand_over(text: str, file: str | None, option: str) -> None:
    """Write to standard output, where a reader that has gone is not an error, or to a file."""
    if not file:
        return
    if file != STANDARD_OUTPUT:
        write(Path(file), text, option)
        return
    sys.stdout.write(text)
    sys.stdout.flush()
    error = command_process.failure(sys.stdout)
    if error is not None and error.errno != errno.EPIPE:
        raise ResourceError(f"cannot write to standard output: {error.strerror}.")


def local_file(given: str | Path, option: str) -> Path:
    """Return the path of a file to write, unless it is an address.

    Args:
        given: Value of the option; a `Path` has one slash of the two of `gs://`.
        option: The option that named it and a space, for the message.

    Raises:
        ConfigError: It is an address, which Python would take for a folder `gs:`.
    """
    if _ADDRESS.match(str(given)):
        raise ConfigError(
            f"{option}{given} is an address. Name a file on this machine, and copy it there."
        )
    return Path(given)


def write(path: Path, content: str | bytes, option: str = "") -> None:
    """Write a file that a person asked for, atomically.

    Args:
        path: Path of the file.
        content: Its content.
        option: The option that named it and a space, for the message.

    Raises:
        ConfigError: It is an address.
        ResourceError: The file cannot be written.
    """
    try:
        atomic_write(local_file(path, option), content)
    except OSError as error:
        raise ResourceError(f"cannot write {option}{path}: {error.strerror or error}.") from None
