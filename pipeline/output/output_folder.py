"""The output folder: its lock, its runs, and what can be removed from it.

Folders of runs are named by the local time of the start, and sorted by it. Nothing here imports
TensorFlow or TFX, so that commands which only look at runs answer at once.

The artifacts of a run lie in its folder, and a later run that takes one from the cache refers to it
there. When a run has ended, the artifacts go that no kept run refers to. Kept are those:

- of the newest run that judged a model and of the last `run.keep`, because the next run takes
  cached outputs from them;
- of the runs that published the model of a version that still exists, or may exist because its
  folder cannot be found, the images, predictions and rejected files.

The versions, the caches, and the pages and results of all runs stay.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import filelock

from imgpipe.components.common.storage import manifest
from imgpipe.components.run_record import run_folder
from imgpipe.components.run_record.run_folder import ARTIFACT_ROOT, CONFIG
from imgpipe.models.errors import ResourceError
from imgpipe.models.files.atomic_write import TEMPORARY
from imgpipe.pipeline.command_line import command_process
from imgpipe.pipeline.output.run import TIME, Run

LOCK = ".lock"
_LOOK_S = 10.0  # seconds in which commands that look give back their lock, which takes them less
#: Database of ML Metadata, below the output folder, by which a run finds what is in the cache.
DATABASE = "metadata.sqlite"
#: Folder of all runs, below the output folder.
RUNS = "runs"
_NAME = re.compile(r"(\d{8}-\d{6})(?:-(\d+))?")
#: Folders in which a run writes files atomically that stay: decisions, results, schemas, features,
#: answers.
_UNFINISHED = ("", f"{RUNS}/*/", "schema/**/", "features/", "answers/")
#: Components whose artifacts commands read for a published version.
_OF_VERSIONS = ("ImageFilter", "ImageEvaluator")


class OutputFolder:
    """The output folder of runs.

    Args:
        path: Its path; there need not be a folder yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def above(cls, path: Path) -> OutputFolder:
        """Return the output folder to which a path belongs, or the path itself if there is none."""
        path = plain(path)
        # OUT, OUT/model or OUT/runs, and OUT/model/3 or OUT/runs/NAME.
        folders = [cls(folder) for folder in (path, path.parent, path.parent.parent)]
        return next((folder for folder in folders if folder.started), folders[0])

    @classmethod
    def find(cls, path: Path) -> OutputFolder:
        """Return the output folder to which a path belongs.

        Raises:
            ResourceError: Neither the folder nor those above it hold a run.
        """
        folder = cls.above(path)
        if folder.started:
            return folder
        raise ResourceError(
            f"no run in {folder.path}. Expected: the output folder of a run, one of its versions, "
            f"or the folder of a run. Received: {received(folder.path)}. Run `imgpipe run`, or "
            "name another folder."
        )

    # --- who works in it -----------------------------------------------------------------------
    @contextlib.contextmanager
    def locked(self, busy: str) -> Iterator[None]:
        """Hold the lock during the block; the system frees it if the process dies.

        Args:
            busy: What to say if another process holds the lock.

        Raises:
            ResourceError: Another process holds the lock.
            OSError: The lock cannot be written.
        """
        # A lock of the system instead of a file that exists or not, which a killed run would leave.
        lock = filelock.FileLock(self.path / LOCK)
        tries_until = time.monotonic() + _LOOK_S
        while not lock.is_locked:
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                # A command that looks whether a run is working holds its lock for an instant.
                if self.is_working or time.monotonic() > tries_until:
                    raise ResourceError(busy) from None
                time.sleep(0.01)
        try:
            yield
        finally:
            lock.release()

    @property
    def is_working(self) -> bool:
        """Whether a run holds the lock."""
        try:
            with (self.path / LOCK).open("rb") as file:
                # A shared lock, so that two commands that look at the same time see no run in each
                # other. filelock holds the exclusive one, and closing the file gives this one back.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    @contextlib.contextmanager
    def begin(self) -> Iterator[OutputFolder]:
        """Create the folder, hold its lock for a run, and mend what killed runs have left.

        Raises:
            ResourceError: Another run holds the lock, another version of imgpipe made the runs, or
                the folder cannot be used.
        """
        with contextlib.ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                advice = "Wait for it, or use another folder: --out OUT."
                busy = f"another run is working in {self.path}. {advice}"
                stack.enter_context(self.locked(busy))
            except OSError as error:
                is_folder = self.path.is_dir() or not self.path.exists()
                why = error.strerror if is_folder else "it is a file"
                raise ResourceError(
                    f"cannot write to {self.path}: {why}. Expected a folder that can be written; "
                    "name another one with --out OUT."
                ) from None
            for newest in self.started[-1:]:
                if other := run_folder.other_version(newest):
                    raise ResourceError(f"the runs in {self.path} were {other}.")
            self.sweep()
            yield self

    # --- its runs ------------------------------------------------------------------------------
    def new_run(self, settings: str) -> Path:
        """Create the folder of a run that begins, whose name sorts behind those of earlier ones.

        Local time goes back at the end of daylight saving time, and when the clock is corrected.
        The run then gets the name of the newest run with a number, as a second run of the same
        second does.

        Args:
            settings: The configuration as TOML.

        Raises:
            OSError: The folder cannot be written.
        """
        runs = self.path / RUNS
        names = map(_NAME.fullmatch, (path.name for path in runs.glob("*/")))
        earlier = [name[1] for name in names if name]
        start = max([time.strftime(TIME), *earlier])  # times in this format sort like texts
        folder = runs / start
        number = 1
        while folder.exists():
            number += 1
            folder = runs / f"{start}-{number}"
        folder.mkdir(parents=True)
        run_folder.begin(folder, settings, sys.argv)
        return folder

    @property
    def started(self) -> list[Path]:
        """The folders of the runs that have started, the oldest first."""
        configurations = (self.path / RUNS).glob(f"*/{CONFIG}")
        return sorted((file.parent for file in configurations), key=_start)

    @property
    def runs(self) -> list[Run]:
        """The runs, the oldest first.

        Examples:
            >>> [(run.status, run.version) for run in OutputFolder(Path("imgpipe-out")).runs]
            [('blessed', 1)]
        """
        folders = self.started
        is_working = self.is_working
        # The lock belongs to the output folder; of its runs, only the newest can hold it.
        return [Run.read(run, is_working and run == folders[-1]) for run in folders]

    def publishers(self, version: Path) -> list[Run]:
        """Return the runs that published the model of a version, which may be gone.

        The path of the version is absolute.
        """
        number = manifest.pushed_as(version)
        return [run for run in self.runs if run.version == number]

    # --- what can be removed -------------------------------------------------------------------
    def sweep(self) -> None:
        """Remove the temporary files of killed runs; the caller holds the lock.

        Versions are left alone, because other programs publish there too.
        """
        for path in self._left():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _left(self) -> list[Path]:
        """List the temporary files and folders of killed runs, while no run is working."""
        folders = (self.path / RUNS).glob(f"*/{command_process.TEMPORARY_FILES}")
        unfinished = (self.path.glob(f"{pattern}{TEMPORARY}*") for pattern in _UNFINISHED)
        return [*folders, *itertools.chain.from_iterable(unfinished)]

    def clean(self, last: int) -> int:
        """Remove what no later run reads at the end of a run; return the bytes that are freed.

        Args:
            last: Number of the newest runs whose artifacts are kept; 0 to keep all of them.
        """
        if last:
            with contextlib.suppress(OSError):  # the next run tries again
                return remove(self.unused(last))
        return 0

    def unused(self, last: int) -> list[Path]:
        """Return the folders of artifacts that no kept run and no version needs.

        They can be removed while no other run is working. There are none if a kept run did not
        record which artifacts it used.

        Args:
            last: Number of the newest runs whose artifacts are kept.
        """
        runs = self.runs
        # The default is the first run, so that every run counts where none has judged a model.
        newest = max((i for i, run in enumerate(runs) if run.decided_by is not None), default=0)
        recent = [*runs[newest:][:1], *runs[-last:]]
        published = [run for run in runs if run not in recent and _may_be_published(run)]
        if any(run.artifacts is None for run in (*published, *recent)):
            return []
        used = {run.out / path for run in recent for _, path in _artifacts(run)}
        used |= {
            run.out / path
            for run in published
            for component, path in _artifacts(run)
            if component in _OF_VERSIONS
        }
        unused = []
        for root in sorted(self.path.glob(f"{RUNS}/*/{ARTIFACT_ROOT}")):
            # component/output/number; names that begin with a dot are TFX's own.
            folders = sorted(root.glob("[!.]*/[!.]*/[!.]*"))
            not_used = [folder for folder in folders if folder not in used]
            unused += not_used if len(not_used) < len(folders) else [root]
        return unused


def remove(folders: Sequence[Path]) -> int:
    """Remove artifacts that `unused` has found; return the number of bytes that are freed."""
    freed = sum(map(size, folders))
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return freed


def size(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    files = path.rglob("*") if path.is_dir() else iter([path])
    # lstat: what a link points to is not removed with it, and so is not counted.
    return sum(file.lstat().st_size for file in files if file.is_symlink() or file.is_file())


def plain(path: Path) -> Path:
    """Return an absolute path without `~` and `..`; links in it stay, unlike in a resolved one."""
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100


def received(path: Path) -> str:
    """Say what is at a path at which neither a run nor a model was found."""
    if not path.is_dir():
        return "a file" if path.is_file() else "there is no such folder"
    names = sorted(child.name for child in path.iterdir())[:5]  # enough to recognise the folder
    return f"it holds {', '.join(names) or 'nothing'}"


def _start(folder: Path) -> tuple[str, int]:
    """Return the start of a run, and its number among the runs of that second."""
    name = _NAME.fullmatch(folder.name)
    if name is None:  # on Kubeflow, a run has the name that Kubeflow gave it
        noted = run_folder.noted_start(folder)
        return (noted.strftime(TIME) if noted else folder.name, 0)
    return name[1], int(name[2] or 1)  # as a number, since the text "10" sorts before "2"


def _may_be_published(run: Run) -> bool:
    """Whether the model of a run may still be published.

    That is unknown if the folder of versions is not there, which may have been moved.
    """
    if run.version is None:
        return False
    folder = run.versions_folder
    if not folder.is_dir():
        return True
    numbers = manifest.version_numbers(folder)
    return run.version in {manifest.pushed_as(folder / str(number)) for number in numbers}


def _artifacts(run: Run) -> Iterator[tuple[str, str]]:
    """Yield component and path of each artifact of a run, in whichever run's folder it lies."""
    for component, outputs in (run.artifacts or {}).items():
        for path in outputs.values():
            yield component, path
