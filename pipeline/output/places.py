"""Finds the run or the published version that a path on the command line means.

Every command takes the output folder, its folder of versions, one version, or the folder of a run.
"""

from __future__ import annotations

import operator
import os
import shlex
from collections.abc import Callable
from pathlib import Path

from imgpipe.components.common.formatting import plural
from imgpipe.components.common.storage import manifest
from imgpipe.components.run_record.run_files import CONFIG
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.files.described_files import version_damage
from imgpipe.models.files.plain_paths import pattern_in
from imgpipe.models.files.version_files import SAVED_MODEL
from imgpipe.pipeline.configuration.places import VERSIONS
from imgpipe.pipeline.output import past_runs
from imgpipe.pipeline.output.past_runs import PastRun
from imgpipe.pipeline.output.run_folders import RUNS

_NAMED = 3  # runs that a message names


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
    found = (path, path.parent, path.parent.parent)
    return next((out for out in found if any((out / RUNS).glob(f"*/{CONFIG}"))), path)


def output_folder(path: Path) -> Path:
    """Return the output folder to which a folder belongs.

    Raises:
        ResourceError: Neither the folder nor those above it hold a run.
    """
    out = output_folder_above(path)
    if any((out / RUNS).glob(f"*/{CONFIG}")):
        return out
    raise ResourceError(
        f"no run in {out}. Expected: the output folder of a run, one of its versions, or the "
        f"folder of a run. Received: {_received(out)}. Run `imgpipe run`, or name another folder."
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
    for one in runs:
        if one.folder == path:
            one.require_readable()
            return one
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
        chosen = [one for one in runs if fit(one)]
        missing = f"no run in {out} {done}"
    if not chosen:
        names = ", ".join(one.name for one in runs[-_NAMED:])
        for one in runs:  # one of these may be the run that is meant
            one.require_readable()
        raise ResourceError(f"{missing}. Name the folder of a run. The newest are: {names}.")
    return chosen[-1]


def versions(path: Path, numbered: bool = True) -> tuple[Path, Path | None]:
    """Find the folder of versions.

    Args:
        path: Output folder of a run, folder of numbered versions, or one version.
        numbered: Whether a SavedModel in a folder that is not named by a number is refused.

    Returns:
        The folder of numbered versions, and the absolute path of the version if `path` is one, else
        None.

    Raises:
        ConfigError: TensorFlow would take the path for a pattern.
        ResourceError: There is no model.
    """
    path = path.expanduser()
    if why := pattern_in(path.absolute()):
        raise ConfigError(why)
    if (path / SAVED_MODEL).is_file():
        version = path.absolute()
        # "." and a link such as "current" stand for a version; its folder is named by the number.
        if not version.name.isdecimal() and version.resolve().name.isdecimal():
            version = version.resolve()
        number = str(int(version.name)) if version.name.isdecimal() else ""
        if numbered and (number in ("", "0") or number != version.name):
            name = "1" if number in ("", "0") else number
            raise ResourceError(
                f"{path} is a SavedModel in a folder that is not named by a version. Expected: a "
                f"name such as {name}. Rename it: {_renaming(version, name)}"
            )
        return version.parent, version
    for base in (path, path / VERSIONS):
        _refuse_zeros(base)
        if manifest.version_numbers(base):
            return base.absolute(), None
    unpublished = _unpublished(path)
    if unpublished:
        raise ResourceError(unpublished)
    raise ResourceError(
        f"no model in {path}. Expected: the output folder of a run that published one, a folder of "
        f"numbered versions such as {path / '1'}, or one version. Received: {_received(path)}. "
        "Run `imgpipe run`, or name another folder."
    )


def _refuse_zeros(base: Path) -> None:
    """Refuse versions such as 0001, which TensorFlow Serving takes for version 1.

    Raises:
        ResourceError: There is one.
    """
    for model in sorted(base.glob(f"0*/{SAVED_MODEL}")):
        folder = model.parent
        if folder.name.isdecimal() and int(folder.name):
            raise ResourceError(
                f"{folder} is named by a number with zeros before it. Expected: the number of a "
                f"version alone. Rename it: {_renaming(folder, str(int(folder.name)))}"
            )


def _renaming(folder: Path, name: str) -> str:
    """Return the command that renames a folder."""
    return shlex.join(["mv", str(folder), str(folder.parent / name)])


def _unpublished(path: Path) -> str:
    """Say what can be done in an output folder none of whose runs has published a model.

    Returns:
        The sentences, with a line for each command; "" for a folder without runs, or with one that
        published a model elsewhere.
    """
    out = output_folder_above(path)
    runs = past_runs.read(out)
    if not runs or any(run.version is not None for run in runs):
        return ""
    said = f"no model is published in {path}, although {out} has {plural(len(runs), 'run')}. "
    name = shlex.quote(str(out))
    evaluated = [run for run in runs if run.decided_by is not None]
    if not evaluated:
        ended = runs[-1].summary
        how = ended["verdict"].splitlines()[0] if ended is not None else runs[-1].status
        return (
            f"{said}None has evaluated one. The newest: {how}. Look at it:\n  imgpipe open {name}"
        )
    newest = evaluated[-1]
    verdict = newest.summary["verdict"] if newest.summary is not None else ""
    said += (
        f"The newest that evaluated one: {verdict}. Try this model without publishing it "
        "(predict, explain and evaluate take --run, too):\n"
        f"  imgpipe serve {name} --run newest"
    )
    for command in newest.next_commands:
        if command["purpose"] == "publish":
            said += f"\nOr {command['text']}:\n  {command['command']}"
    return said


def version(path: Path, number: int | None = None) -> Path:
    """Find the version that a path and a number denote.

    Args:
        path: Output folder of a run, folder of numbered versions, or one version.
        number: Number of the version, None for the newest intact one.

    Returns:
        The folder of the version.

    Raises:
        ConfigError: There is no version of this number, or it is no integer, or TensorFlow would
            take the path for a pattern.
        ResourceError: There is no model, or it is damaged.
    """
    try:
        wanted = None if number is None else str(operator.index(number))  # also NumPy's integers
    except TypeError:
        raise ConfigError(
            f"expected the number of a version as an integer. Received: {number!r}."
        ) from None
    base, found = versions(path, numbered=False)
    if found is None:
        there = [str(one) for one in manifest.version_numbers(base)]
        if wanted not in (None, *there):
            raise ConfigError(f"{base} has no version {wanted}. Versions: {', '.join(there)}.")
        # Versions that no run has published have no manifest; of them, the last one is taken.
        newest = None if wanted else manifest.latest(base)
        found = newest.path if newest else base / (wanted or there[-1])
    elif wanted not in (None, found.name):
        raise ConfigError(f"{path} is one version; remove --version {wanted}, or name {base}.")
    what = version_damage(found) if (found / manifest.MANIFEST).exists() else ""
    if what:
        raise ResourceError(
            f"{found} is damaged: {what}. Choose another version, or publish an intact one "
            f"with: imgpipe rollback {shlex.quote(str(base))}"
        )
    return found


def _received(path: Path) -> str:
    """Say what is at a path at which nothing was found."""
    if not path.is_dir():
        return "a file" if path.is_file() else "there is no such folder"
    names = sorted(child.name for child in path.iterdir())[:5]  # enough to recognise the folder
    return f"it holds {', '.join(names) or 'nothing'}"
