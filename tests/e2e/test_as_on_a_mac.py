"""The pipeline in a process that finds what a Mac has: no `/proc`, no fork, and other answers.

TensorFlow and Python stay those of this machine. The test starts this file as a program, `PHOTOS
OUT`, because what it takes away is gone for good.
"""

import errno
import faulthandler
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import python_program
from tests.conftest import REPOSITORY
from tests.e2e.case import Case

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
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

    outcome = Case(photos, out).run()
    with imgpipe.load(out) as model:
        [answer] = model.predict([next((photos / "rock").glob("*.jpg"))])
    print(system.name(), outcome.blessed, answer.label)


def test_a_run_and_its_model_need_nothing_that_only_linux_has(drawn: Path, tmp_path: Path) -> None:
    program = (sys.executable, "-m", "tests.e2e.test_as_on_a_mac")
    done = python_program.ran(*program, drawn, tmp_path / "out", cwd=REPOSITORY, seconds=580)
    system, blessed, label = done.stdout.splitlines()[-1].split()
    assert (system, blessed) == ("Darwin", "True")
    assert label in {"paper", "rock", "scissors"}


if __name__ == "__main__":
    faulthandler.dump_traceback_later(_SECONDS, exit=True)
    _become()
    _run(Path(sys.argv[1]), Path(sys.argv[2]))
