"""Finds the files and folders that can be removed without changing the results of later runs.

The following are kept:

- all versions, and the pages and summaries of all runs;
- the feature bank and the inspection cache;
- the artifacts of the newest run that judged a model and of all later runs, because the next run
  takes cached outputs from them;
- the artifacts of the runs that published the model of a version that still exists, or may exist
  because its folder cannot be found.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from imgpipe.components.storage import integrity, manifest
from imgpipe.pipeline.output import past_runs, temporary_files
from imgpipe.pipeline.output.past_runs import PastRun
from imgpipe.pipeline.output.run_folders import ARTIFACT_PARTS


@dataclass(frozen=True)
class Removable:
    """A file or a folder that can be removed.

    Attributes:
        path: The file or the folder.
        kind: What it is, in the plural.
        bytes: Its size on disk.
    """

    path: Path
    kind: str
    bytes: int

    def remove(self) -> None:
        """Remove it; it does not matter if it is gone already."""
        if self.kind == ARTIFACTS:
            integrity.remove(self.path)
        elif self.path.is_dir():
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            self.path.unlink(missing_ok=True)


ARTIFACTS = "artifacts of earlier runs"
TEMPORARY = "temporary files of killed runs"


def find(out: Path) -> tuple[list[Removable], str]:
    """Find what can be removed while no run is working.

    Args:
        out: Output folder of the runs.

    Returns:
        What can be removed, and why artifacts have to be kept, "" if they need not be.
    """
    runs = past_runs.read(out)
    kept = _kept(runs)
    found = [_removable(path, TEMPORARY) for path in temporary_files.leftovers(out)]
    unknown = [run.name for run in kept if run.artifacts is None]
    if unknown:
        return found, (
            f"all artifacts are kept, because run {unknown[0]} did not record which of them it "
            "used. After a new run that publishes its own version, they "
            "can be removed"
        )
    used = {part for run in kept for part in _used(run)}
    found += [
        _removable(folder, ARTIFACTS)
        # Names that begin with a dot are seals, unfinished files, and TFX's own folders .system.
        for folder in sorted((out / "artifacts").glob("[!.]*/[!.]*/[!.]*"))
        if folder.is_dir() and folder.parts[-ARTIFACT_PARTS:] not in used
    ]
    return found, ""


def _kept(runs: Sequence[PastRun]) -> list[PastRun]:
    """Return the runs whose artifacts are needed; all of them if none has judged a model."""
    # The default is the first run, so that every run counts where none has judged a model.
    newest = max((i for i, run in enumerate(runs) if run.accuracy is not None), default=0)
    published = functools.cache(_published)
    return [
        run
        for i, run in enumerate(runs)
        if i >= newest or (run.version is not None and _is_there(run, published))
    ]


def _is_there(run: PastRun, published: Callable[[Path], set[int]]) -> bool:
    """Whether the model of a run may still be published.

    That is unknown if no setting can be read, and if the recorded folder of versions is not there:
    it may have been moved, or lie on a disk that is not mounted.
    """
    folder = run.versions_folder
    return not run.config or not folder.is_dir() or run.version in published(folder)


def _published(versions: Path) -> set[int]:
    """Return the numbers under which runs published the models of a folder of versions."""
    numbers = manifest.version_numbers(versions)
    return {past_runs.pushed_as(versions / str(number)) for number in numbers}


def _used(run: PastRun) -> Iterator[tuple[str, ...]]:
    """Yield (component, output, number) of the artifacts, which hold wherever the folder moves."""
    for outputs in (run.artifacts or {}).values():
        for uri in outputs.values():
            yield Path(uri).parts[-ARTIFACT_PARTS:]


def _removable(path: Path, kind: str) -> Removable:
    files = path.rglob("*") if path.is_dir() else iter([path])
    # lstat: what a link points to is not removed with it, and so is not counted.
    size = sum(file.lstat().st_size for file in files if file.is_symlink() or file.is_file())
    return Removable(path, kind, size)
