"""Runs Python programs in processes of their own, such as one that lists what it imports."""

from __future__ import annotations

import subprocess
import sys


def ended(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program and return the process after its end."""
    words = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=280, check=False)


def imported(messages: str) -> set[str]:
    """Return the names of the modules that a process imported, which ran with `-X importtime`."""
    return {line.rpartition("|")[2].strip() for line in messages.splitlines()}


def printed(program: str, *arguments: object) -> str:
    """Run a program that succeeds, and return what it prints on standard output."""
    done = ended(program, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout
