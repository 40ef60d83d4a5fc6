"""Temporary files of a run: below its own folder, and removed with it when the run was killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_NAME = "tmp"


@contextlib.contextmanager
def below(directory: Path) -> Iterator[None]:
    """Have this process and those it starts write temporary files below `directory`.

    Args:
      directory: folder of the run. Its sub-folder ``tmp`` is removed at the end.
    """
    folder = directory / _NAME
    folder.mkdir(mode=0o700)
    variable, module = os.environ.get("TMPDIR"), tempfile.tempdir
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = module
        os.environ.pop("TMPDIR")
        if variable is not None:
            os.environ["TMPDIR"] = variable
        shutil.rmtree(folder, ignore_errors=True)


def sweep(runs: Path) -> None:
    """Remove the temporary files of killed runs. The caller holds the lock of the output folder.

    Args:
      runs: folder that holds a folder for each run.
    """
    for folder in runs.glob(f"*/{_NAME}"):
        shutil.rmtree(folder, ignore_errors=True)
