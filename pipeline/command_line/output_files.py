"""The files that a command writes, and the browser that shows one."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.models.machine.system import has_display
from imgpipe.pipeline.command_line import standard_streams
from imgpipe.pipeline.command_line.terminal import new_console, say

if TYPE_CHECKING:
    from rich.console import Console


def show(address: str, console: Console) -> None:
    """Open the address of a page in a browser; say so when there is none."""
    import webbrowser

    # Without a display, `webbrowser` would start a browser in the terminal.
    if not has_display() or not webbrowser.open(address):
        say(console, "No browser was found here. Open the page in one.")


STANDARD_OUTPUT = "-"


def check_folder(option: str, target: str | Path | None) -> None:
    """Refuse a file whose folder does not exist, or a folder, before any work is done.

    Args:
        option: Name of the option, for the message.
        target: Value of the option. None is always accepted, and so is `-` as a text. A path is
            that of a file which is not printed.

    Raises:
        ConfigError: The folder does not exist, or the target is a folder itself, or `-` where
            nothing is printed.
    """
    if target in (None, "", STANDARD_OUTPUT):
        return
    if target == Path(STANDARD_OUTPUT):  # a page or picture, which no other program reads
        raise ConfigError(
            f"{option} takes the name of a file and prints nothing. Received: {STANDARD_OUTPUT}."
        )
    path = Path(str(target))
    if path.is_dir():
        raise ConfigError(f"{option} {target} is a folder. Name a file, such as one in it.")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{option} {target}: its folder does not exist.")


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
    text = json.dumps(content, indent=1, ensure_ascii=plain) + "\n"
    if json_file == STANDARD_OUTPUT:
        _print(text)
    else:
        write(Path(json_file), text, "--json ")


def write_csv(text: str, csv_file: str | None) -> None:
    """Write a table to the file that `--csv` names, if there is one.

    Args:
        text: The table as CSV.
        csv_file: Value of `--csv`: a path, `-` for standard output, or None.

    Raises:
        ResourceError: It cannot be written. A closed pipe on standard output is not an error.
    """
    if csv_file == STANDARD_OUTPUT:
        _print(text)
    elif csv_file:
        # The mark at the start tells spreadsheets that the file is UTF-8.
        write(Path(csv_file), f"\ufeff{text}", "--csv ")


def _print(text: str) -> None:
    """Write to standard output, where a reader that has gone is not an error."""
    sys.stdout.write(text)
    sys.stdout.flush()
    error = standard_streams.failure(sys.stdout)
    if error is not None and error.errno != errno.EPIPE:
        raise ResourceError(f"cannot write to standard output: {error.strerror}.")


def write(path: Path, content: str | bytes, option: str = "") -> None:
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
        raise ResourceError(f"cannot write {option}{path}: {error.strerror or error}.") from None
