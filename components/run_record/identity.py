"""What identifies a run: when and how it was started, and the packages that it used."""

from __future__ import annotations

import contextlib
import json
import platform
import shlex
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from imgpipe.models.files import json_object
from imgpipe.models.files.atomic_write import atomic_write

FILE = "identity.json"
#: Distributions whose versions can change a model or its evaluation.
_PACKAGES = (
    *("imgpipe", "tensorflow", "keras", "numpy", "pillow", "tfx"),
    *("tensorflow-model-analysis", "apache-beam"),
)


class Identity(TypedDict):
    """When and how a run was started, and the packages that it used."""

    date: str  # local time with its offset from UTC
    command: str  # "" if it is not known
    folder: str  # of the run on this machine; "" if there is none
    packages: dict[str, str]  # versions by name


def note_start(folder: Path, arguments: Sequence[str]) -> None:
    """Write the time and the command line of a run to its folder.

    Args:
        folder: Folder of the run.
        arguments: The program and its arguments, as in `sys.argv`. Those of another program than
            `imgpipe`, which calls `imgpipe.run`, are not written, as they may hold secrets.
    """
    program = Path(arguments[0]).name if arguments else ""
    command = shlex.join([program, *arguments[1:]]) if program == "imgpipe" else ""
    text = json.dumps({"date": _now(), "command": command}, ensure_ascii=False)
    atomic_write(folder / FILE, text + "\n")


def read(folder: str) -> Identity:
    """Read when and how a run was started from its folder; the date is now if none is noted."""
    noted: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):  # as if the start had not been noted
        noted = json_object.read(Path(folder) / FILE) if folder else {}
    return {
        "date": str(noted.get("date", _now())),
        "command": str(noted.get("command", "")),
        "folder": folder,
        "packages": packages(),
    }


def packages() -> dict[str, str]:
    """Return the versions of Python and of the packages on which results depend."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):  # imgpipe may run from a folder
            versions[name] = metadata.version(name)
    return versions


def _now() -> str:
    """Return the local time with its offset from UTC, such as `2026-01-31 14:05:59 +0100`."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z")
