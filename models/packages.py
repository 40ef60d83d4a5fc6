"""The command that installs a package which imgpipe can use and does not require."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path


def install_command(*packages: str) -> str:
    """Return the command that installs packages into the Python of this process.

    It begins with `pip` where the terminal finds the pip of this Python, and with the path of this
    Python where the terminal would find another pip, or none.

    Args:
        packages: Names with their extras and versions, as pip takes them.
    """
    found = shutil.which("pip")
    own = found is not None and Path(found).parent == Path(sys.executable).parent
    program = ["pip"] if own else [sys.executable, "-m", "pip"]
    return shlex.join([*program, "install", *packages])
