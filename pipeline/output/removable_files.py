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

from collections.abc import Iterator
from pathlib import Path

from imgpipe.components.storage import manifest
from imgpipe.pipeline.output import past_runs, temporary_files
from imgpipe.pipeline.output.past_runs import PastRun
from imgpipe.pipeline.output.run_folders import ARTIFACT_PARTS

ARTIFACTS = "artifacts of earlier runs"
TEMPORARY = "temporary files of killed runs"


def find(out: Path) -> tuple[dict[str, list[Path]], str]:
    """Find what can be removed while no run is working.

    Args:
        out: Output folder of the runs.

    Returns:
        What can be removed, by its kind, and why artifacts have to be kept, "" if they need not be.
    """
    found = {TEMPORARY: temporary_files.leftovers(out)}
    runs = past_runs.read(out)
    # The default is the first run, so that every run counts where none has judged a model.
    newest = max((i for i, run in enumerate(runs) if run.accuracy is not None), default=0)
    kept = [run for i, run in enumerate(runs) if i >= newest or _may_be_published(run)]
    unknown = [run.name for run in kept if run.artifacts is None]
    if unknown:
        return found, (
            f"all artifacts are kept, because run {unknown[0]} did not record which of them it "
            "used. After a new run that publishes its own version, they "
            "can be removed"
        )
    used = {part for run in kept for part in _used(run)}
    # Names that begin with a dot are seals, unfinished files, and TFX's own folders .system.
    folders = sorted((out / "artifacts").glob("[!.]*/[!.]*/[!.]*"))
    found[ARTIFACTS] = [
        folder
        for folder in folders
        if folder.is_dir() and folder.parts[-ARTIFACT_PARTS:] not in used
    ]
    return found, ""


def _may_be_published(run: PastRun) -> bool:
    """Whether the model of a run may still be published.

    That is unknown if no setting can be read, and if the recorded folder of versions is not there:
    it may have been moved, or lie on a disk that is not mounted.
    """
    if run.version is None:
        return False
    folder = run.versions_folder
    if not run.config or not folder.is_dir():
        return True
    numbers = manifest.version_numbers(folder)
    return run.version in {past_runs.pushed_as(folder / str(number)) for number in numbers}


def _used(run: PastRun) -> Iterator[tuple[str, ...]]:
    """Yield (component, output, number) of the artifacts, which hold wherever the folder moves."""
    for outputs in (run.artifacts or {}).values():
        for uri in outputs.values():
            yield Path(uri).parts[-ARTIFACT_PARTS:]


def size(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    files = path.rglob("*") if path.is_dir() else iter([path])
    # lstat: what a link points to is not removed with it, and so is not counted.
    return sum(file.lstat().st_size for file in files if file.is_symlink() or file.is_file())
