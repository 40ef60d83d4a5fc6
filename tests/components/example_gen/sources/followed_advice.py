"""Follows the advice of a message: reads the source that each of its commands names."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from imgpipe.components.example_gen.sources import SourceOptions, open_source


def commands(message):
    """Return source and options of each command in a message: [(source, {name: value})]."""
    return list(map(_parsed, re.findall(r"imgpipe check ([^\n]+)", str(message))))


def _parsed(command):
    where, *sets = shlex.split(command)
    pairs = [setting.removeprefix("data.").split("=", 1) for setting in sets[1::2]]
    return where, {name: value(text) for name, text in pairs}


def value(text):
    """Return the value of a setting as the command line reads it."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def scans(message, **options):
    """Return the scan of each command in a message."""
    return [
        open_source(where, SourceOptions(**{**options, **given})).listing()
        for where, given in commands(message)
    ]


def scans_after_shell(message, folder):
    """Return the scan of each command in a message, after what a shell does before the check."""
    found = []
    python = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{python}:{os.environ['PATH']}"}
    for line in re.findall(r"(?<=: )(?:(?!: ).)*imgpipe check .*", str(message)):
        before, _, command = line.rpartition("imgpipe check ")
        shell = {"shell": True, "cwd": folder, "env": environment}
        done = subprocess.run(f"{before}pwd", **shell, check=True, capture_output=True, text=True)
        where, options = _parsed(command)
        kind, _, path = where.rpartition(":")
        spec = f"{kind}:{Path(done.stdout.splitlines()[-1]) / path}".lstrip(":")
        found.append(open_source(spec, SourceOptions(**options)).listing())
    return found
