"""Runs commands of imgpipe in this process, which spares the time of importing the libraries."""

import contextlib
import functools
import io
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import CliRunner, Result

from imgpipe.pipeline import cli
from imgpipe.pipeline.application import app
from imgpipe.pipeline.command_line import command_process, signals
from tests import json_formats


def imgpipe(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in the folder `cwd` and return its exit code, output and messages.

    What a process of its own prepares, the handlers of signals and the standard streams, is left
    out; test_signals.py and test_standard_streams.py test it.
    """
    out, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signals, "install", lambda: None)
        patch.setattr(command_process, "prepare", lambda: None)
        patch.setattr(sys, "argv", ["imgpipe", *arguments])
        if cwd is not None:
            patch.chdir(cwd)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            try:
                cli.main()
                code = 0
            except SystemExit as ended:
                code = int(ended.code or 0)
    printed, said = (stream.buffer.getvalue().decode() for stream in (out, errors))
    return subprocess.CompletedProcess(arguments, code, printed, said)


@functools.cache
def _main() -> Any:
    return typer.main.get_command(app)


def commands(group: Any = None, name: str = "imgpipe") -> dict[str, Any]:
    """Return all commands that are no groups by their full names, such as "imgpipe runs"."""
    found: dict[str, Any] = {}
    for word, command in (group or _main()).commands.items():
        full = f"{name} {word}"
        found |= commands(command, full) if hasattr(command, "commands") else {full: command}
    return found


def command_of(line: str) -> tuple[Any, list[str]]:
    """Return the command of a command line of imgpipe, and the words behind its name."""
    known = commands()
    name = max((one for one in known if f"{line} ".startswith(f"{one} ")), key=len, default="")
    assert name, f"{line}: no such command"
    return known[name], shlex.split(line.removeprefix(name))


def ran(*words: object) -> Result:
    """Run a command without its ending in `cli`; return the result, or raise its error."""
    result = CliRunner().invoke(_main(), [*map(str, words)], env={"COLUMNS": "300"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def answered(command: str, *words: object) -> Any:
    """Run a command and return the JSON of its standard output, which has its declared format."""
    found = json.loads(ran(*command.split(), *words, "--json", "-").stdout)
    json_formats.conform(command, found)
    return found
