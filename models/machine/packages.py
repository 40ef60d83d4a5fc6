"""The commands that install packages which imgpipe can use and does not require."""

from __future__ import annotations

import importlib.metadata
import shlex
import sys


def install_command(*packages: str) -> str:
    """Return the command that installs packages into the Python of this process.

    It names this Python, because the terminal may find the pip of another one.

    Args:
        packages: Names with their extras and versions, as pip takes them.
    """
    return shlex.join([sys.executable, "-m", "pip", "install", *packages])


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
