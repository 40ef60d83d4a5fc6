"""Runs the pipeline in a process that finds what a Mac has: no `/proc`, no fork, and other answers.

TensorFlow and Python stay those of this machine. It is a program of its own, `as_on_a_mac.py PHOTOS
OUT`, because what it takes away is gone for good.
"""

from __future__ import annotations

import errno
import faulthandler
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_ONLY_LINUX = ("sched_getaffinity", "sched_setaffinity", "posix_fallocate", "posix_fadvise", "fork")
_FOLDERS = ("/proc", "/sys")
_SECONDS = 540  # then the process ends, and says where each of its threads was


def _become() -> None:
    """Take away what only Linux has, in this process and for good."""
    for function in _ONLY_LINUX:
        delattr(os, function)
    platform.system = lambda: "Darwin"
    platform.machine = lambda: "arm64"
    sys.addaudithook(_refuse_to_open)
    for function in ("stat", "readlink", "listdir", "scandir"):
        setattr(os, function, _without_linux_folders(getattr(os, function)))


def _is_missing(path: Any) -> bool:
    return isinstance(path, str | Path) and str(path).startswith(_FOLDERS)


def _refuse_to_open(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _is_missing(arguments[0]):
        raise FileNotFoundError(errno.ENOENT, "as on a Mac", str(arguments[0]))


def _without_linux_folders(function: Callable[..., Any]) -> Callable[..., Any]:
    def called(path: Any = ".", *arguments: Any, **named: Any) -> Any:
        if _is_missing(path):
            raise FileNotFoundError(errno.ENOENT, "as on a Mac", str(path))
        return function(path, *arguments, **named)

    return called


def _run(photos: Path, out: Path) -> None:
    """Run the small pipeline, and print the system, whether it was blessed and an answer."""
    import imgpipe
    from imgpipe.models.machine import system
    from tests.e2e.case import Case

    outcome = Case(photos, out).run()
    with imgpipe.load(out) as model:
        [answer] = model.predict([next((photos / "rock").glob("*.jpg"))])
    print(system.name(), outcome.blessed, answer.label)


if __name__ == "__main__":
    faulthandler.dump_traceback_later(_SECONDS, exit=True)
    _become()
    _run(Path(sys.argv[1]), Path(sys.argv[2]))
