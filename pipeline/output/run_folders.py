"""Names of the folders of runs and of the files in them, and the lock of the output folder.

Folders are named by the local time of the start of the run, and sorted by it.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import filelock

from imgpipe.components.run_record.run_files import CONFIG
from imgpipe.models.errors import ResourceError

LOCK = ".lock"  # of the output folder
#: Folder of all runs, below the output folder.
RUNS = "runs"
#: Root of the artifacts, below the output folder.
ARTIFACT_ROOT = "artifacts"
#: Files in the folder of a run.
SUMMARY = "summary.json"
ARTIFACTS = "artifacts.json"
FORMAT = "%Y%m%d-%H%M%S"
LENGTH = len("20260101-000000")
ARTIFACT_PARTS = 3  # parts of an artifact's path below its root: component, output, number
_NAME = re.compile(r"(\d{8}-\d{6})(?:-(\d+))?")


def create(runs: Path) -> Path:
    """Create the folder of a new run, whose name sorts behind those of all earlier ones.

    Local time goes back at the end of daylight saving time, and when the clock is corrected. The
    run then gets the name of the newest run with a number, as a second run of the same second does.

    Args:
        runs: Folder of all runs.

    Raises:
        OSError: The folder cannot be created.
    """
    names = map(_NAME.fullmatch, (path.name for path in runs.glob("*/")))
    earlier = [name[1] for name in names if name]
    start = max([time.strftime(FORMAT), *earlier])  # times in this format sort like texts
    candidate = runs / start
    number = 1
    while candidate.exists():
        number += 1
        candidate = runs / f"{start}-{number}"
    candidate.mkdir(parents=True)
    return candidate


def started(out: Path) -> list[Path]:
    """Return the folders of the runs that have started, the oldest first.

    Args:
        out: Output folder of the runs.
    """
    return sorted((file.parent for file in (out / RUNS).glob(f"*/{CONFIG}")), key=_key)


def artifact(uri: str, out: Path) -> Path:
    """Return the folder of an artifact, also after the output folder was moved.

    Another project may have taken the former place, so the output folder comes first.
    """
    path = Path(uri)
    here = out.joinpath(ARTIFACT_ROOT, *path.parts[-ARTIFACT_PARTS:])
    return here if here.is_dir() else path


def _key(folder: Path) -> tuple[str, int]:
    name = _NAME.fullmatch(folder.name)
    # As a number, since the text "10" sorts before "2".
    return (name[1], int(name[2] or 1)) if name else (folder.name, 0)


@contextlib.contextmanager
def created_and_locked(out: Path) -> Iterator[None]:
    """Create the output folder, and hold its lock for a run during the block.

    Args:
        out: Output folder of the runs.

    Raises:
        ResourceError: Another run holds the lock, or the folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            out.mkdir(parents=True, exist_ok=True)
            # Images may be private. A folder that exists keeps the mode that a person gave it.
            (out / ARTIFACT_ROOT).mkdir(mode=0o700, exist_ok=True)
            advice = "Wait for it, or use another folder: --out OUT."
            busy = f"another run is working in {out}. {advice}"
            stack.enter_context(locked(out, busy))
        except OSError as error:
            why = error.strerror if out.is_dir() or not out.exists() else "it is a file"
            raise ResourceError(
                f"cannot write to {out}: {why}. Expected a folder that can be written; name "
                "another one with --out OUT."
            ) from None
        yield


@contextlib.contextmanager
def locked(out: Path, busy: str) -> Iterator[None]:
    """Hold the lock during the block; the system frees it if the process dies.

    Args:
        out: Output folder of the runs.
        busy: What to say if another process holds the lock.

    Raises:
        ResourceError: Another process holds the lock.
        OSError: The lock cannot be written.
    """
    try:
        # A lock of the system instead of a file that exists or not, which a killed run would leave.
        held = filelock.FileLock(out / LOCK).acquire(timeout=0)
    except filelock.Timeout:
        raise ResourceError(busy) from None
    with held:
        yield
