"""Finds the files and folders that can be removed without changing the results of later runs.

A run removes them when it has ended, and `imgpipe clean` on demand. The following are kept:

- all versions, and the pages and summaries of all runs;
- the feature bank and the inspection cache;
- the artifacts of the newest run that judged a model and of all later runs, because the next run
  takes cached outputs from them; at the end of a run, of that one and of the last `run.keep`;
- of the runs that published the model of a version that still exists, or may exist because its
  folder cannot be found, the images, predictions and rejected files.

Of the kept artifacts, those are emptied that are copies of something else and have been read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from imgpipe.components.common.storage import integrity, manifest
from imgpipe.pipeline.output import past_runs, temporary_files
from imgpipe.pipeline.output.past_runs import PastRun
from imgpipe.pipeline.output.run_folders import ARTIFACT_PARTS, ARTIFACT_ROOT

ARTIFACTS = "artifacts of earlier runs"
COPIES = "copies of images and models that have been read"
TEMPORARY = "temporary files of killed runs"
#: Outputs that are copies, with the last component of a run that reads them.
_COPIES = {
    "ImageExampleGen/examples": "ImageFilter",
    "Baseline/model": "ImageEvaluator",
    "ModelPusher/pushed_model": "Report",
}
#: Components whose artifacts commands read for a published version.
_OF_VERSIONS = ("ImageFilter/", "Predictor/")


def find(out: Path, last: int = 0) -> tuple[dict[str, list[Path]], str]:
    """Find what can be removed while no other run is working.

    Args:
        out: Output folder of the runs.
        last: Number of the newest runs whose artifacts are kept; 0 keeps those of the newest run
            that judged a model and of all later ones.

    Returns:
        What can be removed, by its kind, and why artifacts have to be kept, "" if they need not be.
    """
    removable = {TEMPORARY: temporary_files.leftovers(out)}
    runs = past_runs.read(out)
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
    used |= {name: {} for run in published for name in _used(run) if name.startswith(_OF_VERSIONS)}
    # The next run may have to read those of the newest one, but nothing reads the pushed copy.
    whole = {name for run in runs[newest:][:1] for name in _used(run) if "pushed_model" not in name}
    removable |= {ARTIFACTS: [], COPIES: []}
    # Names that begin with a dot are seals, unfinished files, and TFX's own folders .system.
    for folder in filter(Path.is_dir, sorted((out / ARTIFACT_ROOT).glob("[!.]*/[!.]*/[!.]*"))):
        name = "/".join(folder.parts[-ARTIFACT_PARTS:])
        reader = _COPIES.get(name.rpartition("/")[0], "")
        if name not in used:
            removable[ARTIFACTS].append(folder)
        elif name not in whole and reader in used[name] and any(map(Path.is_dir, folder.iterdir())):
            removable[COPIES].append(folder)
    return removable, ""


def remove(removable: Mapping[str, Sequence[Path]]) -> int:
    """Remove or empty artifacts that `find` has found; return the number of bytes that are freed.

    Raises:
        OSError: The disk is full or fails.
    """
    freed = 0
    for kind, remove_one in ((ARTIFACTS, integrity.remove), (COPIES, integrity.empty)):
        for path in removable.get(kind, ()):
            freed += size(path)
            remove_one(path)
            freed -= size(path)
    return freed


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


def _used(run: PastRun) -> Iterator[str]:
    """Yield component/output/number of the artifacts, which hold wherever the folder moves."""
    for outputs in (run.artifacts or {}).values():
        for uri in outputs.values():
            yield "/".join(Path(uri).parts[-ARTIFACT_PARTS:])


def size(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    files = path.rglob("*") if path.is_dir() else iter([path])
    # lstat: what a link points to is not removed with it, and so is not counted.
    return sum(file.lstat().st_size for file in files if file.is_symlink() or file.is_file())
