"""Temporary files of a run: below its own folder, and removed with it when the run was killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from imgpipe.models.atomic_write import TEMPORARY

_NAME = "tmp"
#: Where a run writes files under another name first: decisions, seals, schemas, checkpoints.
_UNFINISHED = ("", "artifacts/*/*/", "runs/*/", "schema/**/", "resume/**/")


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


def sweep(out: Path) -> None:
    """Remove what killed runs did not finish. The caller holds the lock of the output folder.

    Args:
      out: output folder of the runs. Versions, which others publish too, are left alone.
    """
    for folder in (out / "runs").glob(f"*/{_NAME}"):
        shutil.rmtree(folder, ignore_errors=True)
    for pattern in _UNFINISHED:
        for path in out.glob(f"{pattern}{TEMPORARY}*"):
            with contextlib.suppress(OSError):
                path.unlink()
