"""Finds the run that a path on the command line means.

Every command takes the output folder, its folder of versions, one version, or the folder of a run.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path

from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.output import past_runs, run_folders
from imgpipe.pipeline.output.past_runs import PastRun
from imgpipe.pipeline.output.run_folders import RUNS

_NAMED = 3  # runs that a message names
#: Ends of the files that `imgpipe export` writes.
_EXPORTS = (".onnx", ".keras", ".tflite")
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz")


def plain(path: Path) -> Path:
    """Return an absolute path without `~` and `..`; links in it stay, unlike in a resolved one.

    Args:
        path: The path as somebody typed it.
    """
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100


def output_folder_above(path: Path) -> Path:
    """Return the output folder to which a folder belongs, or the folder itself if there is none."""
    path = plain(path)
    # OUT, OUT/model or OUT/runs, and OUT/model/3 or OUT/runs/NAME.
    candidates = (path, path.parent, path.parent.parent)
    return next(filter(run_folders.started, candidates), path)


def output_folder(path: Path) -> Path:
    """Return the output folder to which a folder belongs.

    Raises:
        ResourceError: Neither the folder nor those above it hold a run.
    """
    out = output_folder_above(path)
    if run_folders.started(out):
        return out
    raise ResourceError(
        f"no run in {out}. Expected: the output folder of a run, one of its versions, or the "
        f"folder of a run. Received: {received(out)}. Run `imgpipe run`, or name another folder."
    )


def run(
    path: Path,
    fit: Callable[[PastRun], object] = lambda run: run.decided_by is not None,
    done: str = "has evaluated a model",
) -> PastRun:
    """Find one run.

    Args:
        path: Folder of a run; a version, for the run that published its model; or an output folder,
            for its newest run that fits.
        fit: Whether a run fits; the default is one that evaluated a model.
        done: What none of the runs has done if none fits, for the message.

    Raises:
        ResourceError: There is no such run, or its summary is damaged.
    """
    out = output_folder(path)
    path = plain(path)
    runs = past_runs.read(out)
    for past_run in runs:
        if past_run.folder == path:
            past_run.require_readable()
            return past_run
    # Another run in the place of a misspelled one would be taken for the one that is meant.
    if path.parent == out / RUNS or not (path.exists() or path.name.isdecimal()):
        raise ResourceError(
            f"no run in {path}. Expected: the folder of a run in {out / RUNS}, or {out} itself for "
            f"its newest run. `imgpipe runs {shlex.quote(str(out))}` lists the runs."
        )
    if path != out and path.name.isdecimal():
        chosen = past_runs.publishers(runs, path)
        missing = f"no run in {out} published version {past_runs.pushed_as(path)}"
    else:
        chosen = [past_run for past_run in runs if fit(past_run)]
        missing = f"no run in {out} {done}"
    if not chosen:
        names = ", ".join(past_run.name for past_run in runs[-_NAMED:])
        for past_run in runs:  # one of these may be the run that is meant
            past_run.require_readable()
        raise ResourceError(f"{missing}. Name the folder of a run. The newest are: {names}.")
    return chosen[-1]


def received(path: Path) -> str:
    """Say what is at a path at which neither a run nor a model was found.

    Args:
        path: The path, at which there may be nothing.
    """
    if path.suffix in _EXPORTS and path.is_file():
        return "a file for other programs; name the version from which it was exported"
    if path.suffix in _ARCHIVES and path.is_file():
        return "an archive; unpack it, and name the folder"
    if not path.is_dir():
        return "a file" if path.is_file() else "there is no such folder"
    names = sorted(child.name for child in path.iterdir())[:5]  # enough to recognise the folder
    return f"it holds {', '.join(names) or 'nothing'}"
