"""The output folder: its lock, its runs, and what can be removed from it.

Folders of runs are named by the local time of the start, and sorted by it. Nothing here imports
TensorFlow or TFX, so that commands which only look at runs answer at once.

A run removes what later runs do not need when it has ended. The following are kept:

- all versions, and the pages and results of all runs;
- the feature bank and the inspection cache;
- the artifacts of the newest run that judged a model and of all later runs, because the next run
  takes cached outputs from them; at the end of a run, of that one and of the last `run.keep`;
- of the runs that published the model of a version that still exists, or may exist because its
  folder cannot be found, the images, predictions and rejected files.

Of the kept artifacts, those are emptied that are copies of something else and have been read.
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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import filelock

from imgpipe.components.common.storage import integrity, manifest
from imgpipe.components.run_record import run_folder
from imgpipe.components.run_record.run_folder import ARTIFACTS, CONFIG
from imgpipe.models.errors import ResourceError
from imgpipe.models.files.atomic_write import TEMPORARY, atomic_write
from imgpipe.pipeline.command_line import command_process
from imgpipe.pipeline.output import metadata_file
from imgpipe.pipeline.output.run import ARTIFACT_PARTS, ARTIFACT_ROOT, TIME, Run

LOCK = ".lock"
_LOOK_S = 10.0  # seconds in which commands that look give back their lock, which takes them less
#: Folder of all runs, below the output folder.
RUNS = "runs"
#: Kinds of what can be removed.
UNUSED = "artifacts of earlier runs"
COPIES = "copies of images and models that have been read"
LEFT = "temporary files of killed runs"
_NAME = re.compile(r"(\d{8}-\d{6})(?:-(\d+))?")
#: Folders in which a run writes files atomically: decisions, seals, schemas, features, checkpoints.
_UNFINISHED = ("", f"{ARTIFACT_ROOT}/*/*/", f"{RUNS}/*/", "schema/**/", "features/")
#: Outputs that are copies, with the last component of a run that reads them.
_READERS = {
    "ImageExampleGen/examples": "ImageFilter",
    "Baseline/model": "ImageEvaluator",
    "ModelPusher/pushed_model": "Report",
}
#: Components whose artifacts commands read for a published version.
_OF_VERSIONS = ("ImageFilter/", "Predictor/")


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
                the folder or the database of ML Metadata cannot be used.
        """
        with contextlib.ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                advice = "Wait for it, or use another folder: --out OUT."
                busy = f"another run is working in {self.path}. {advice}"
                stack.enter_context(self.locked(busy))
                # Images may be private. A folder that exists keeps the mode that a person gave it.
                (self.path / ARTIFACT_ROOT).mkdir(mode=0o700, exist_ok=True)
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
            damaged = metadata_file.set_aside_if_damaged(self.path / metadata_file.NAME)
            if damaged:
                print(f"note: {damaged}", file=sys.stderr)
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
        run_folder.note_start(folder, sys.argv)
        atomic_write(folder / ARTIFACTS, "{}\n")  # none so far, which `removable` must know
        atomic_write(folder / CONFIG, settings)  # the run has started
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
                return remove(self.removable(last)[0])
        return 0

    def removable(self, last: int = 0) -> tuple[dict[str, list[Path]], str]:
        """Find what can be removed while no other run is working.

        Args:
            last: Number of the newest runs whose artifacts are kept; 0 keeps those of the newest
                run that judged a model and of all later ones.

        Returns:
            What can be removed, by its kind, and why artifacts have to be kept, "" if they need not
            be.
        """
        removable = {LEFT: self._left()}
        runs = self.runs
        # The default is the first run, so that every run counts where none has judged a model.
        newest = max((i for i, run in enumerate(runs) if run.decided_by is not None), default=0)
        recent = [*runs[newest:][:1], *(runs[-last:] if last else runs[newest:])]
        published = [run for run in runs if run not in recent and _may_be_published(run)]
        unknown = [run.name for run in (*published, *recent) if run.artifacts is None]
        if unknown:
            return removable, (
                f"all artifacts are kept, because run {unknown[0]} did not record which of them it "
                "used. After a new run that publishes its own version, they "
                "can be removed"
            )
        used = {name: run.artifacts or {} for run in recent for name in _used(run)}
        of_versions = (name for run in published for name in _used(run))
        used |= {name: {} for name in of_versions if name.startswith(_OF_VERSIONS)}
        # The next run may have to read those of the newest one, but nothing reads the pushed copy.
        last_judged = (name for run in runs[newest:][:1] for name in _used(run))
        whole = {name for name in last_judged if "pushed_model" not in name}
        removable |= {UNUSED: [], COPIES: []}
        # Names that begin with a dot are seals, unfinished files, and TFX's own folders .system.
        folders = (self.path / ARTIFACT_ROOT).glob("[!.]*/[!.]*/[!.]*")
        for folder in filter(Path.is_dir, sorted(folders)):
            name = "/".join(folder.parts[-ARTIFACT_PARTS:])
            reader = _READERS.get(name.rpartition("/")[0], "")
            if name not in used:
                removable[UNUSED].append(folder)
            elif name not in whole and reader in used[name] and any(folder.glob("*/")):
                removable[COPIES].append(folder)
        return removable, ""


def remove(removable: Mapping[str, Sequence[Path]]) -> int:
    """Remove or empty what `removable` has found; return the number of bytes that are freed.

    Raises:
        OSError: The disk is full or fails.
    """
    freed = 0
    for kind, remove_one in ((UNUSED, integrity.remove), (COPIES, integrity.empty)):
        for path in removable.get(kind, ()):
            freed += size(path)
            remove_one(path)
            freed -= size(path)
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
    # As a number, since the text "10" sorts before "2".
    return (name[1], int(name[2] or 1)) if name else (folder.name, 0)


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


def _used(run: Run) -> Iterator[str]:
    """Yield component/output/number of the artifacts, which hold wherever the folder moves."""
    for outputs in (run.artifacts or {}).values():
        for uri in outputs.values():
            yield "/".join(Path(uri).parts[-ARTIFACT_PARTS:])
