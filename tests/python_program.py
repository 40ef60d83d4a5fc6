"""Runs programs in processes of their own, such as one that lists what it imports."""

import os
import subprocess
import sys
from pathlib import Path


def ran(
    *command: object, code: int = 0, cwd: Path | None = None, seconds: float = 280, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command that ends with the exit code `code`, and return the process after its end.

    `variables` are added to the environment.
    """
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == code, done.stdout[-4000:] + done.stderr[-4000:]
    return done


def ended(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a Python program and return the process after its end, whatever its exit code."""
    words = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=280, check=False)


def printed(program: str, *arguments: object) -> str:
    """Run a Python program that succeeds, and return what it prints on standard output."""
    return ran(sys.executable, "-c", program, *arguments).stdout


_NAMES_MODULES = """
import atexit, runpy, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
sys.argv[:] = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__")
"""


def imported(module: str, *arguments: object, code: int = 0) -> tuple[set[str], str]:
    """Run a module as a program that ends with an exit code.

    Returns the names of all modules that are imported at its end, and what it prints. The times
    that `-X importtime` prints would not do: commands hide what libraries write while they load.
    """
    done = ran(sys.executable, "-c", _NAMES_MODULES, module, *arguments, code=code)
    return set(done.stderr.splitlines()[-1].split()), done.stdout
