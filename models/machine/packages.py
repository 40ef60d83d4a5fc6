"""The commands that install packages which imgpipe can use and does not require."""

from __future__ import annotations

import importlib.metadata
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
    pip = shutil.which("pip")
    own = pip is not None and Path(pip).parent == Path(sys.executable).parent
    program = ["pip"] if own else [sys.executable, "-m", "pip"]
    return shlex.join([*program, "install", *packages])


def install_extra(name: str) -> str:
    """Return the command that installs the packages of an extra of imgpipe.

    It names them instead of `imgpipe[name]`, which pip refuses with a glibc before 2.39: there it
    finds no packages of TFX that meet the requirements of imgpipe itself.

    Args:
        name: Name of the extra, such as `heic`.
    """
    packages = []
    for line in importlib.metadata.requires("imgpipe") or ():
        package, _, condition = line.partition(";")
        if condition.strip() == f"extra == '{name}'":
            packages.append(package.strip())
    return install_command(*packages)
