"""Reads the quarantine of a run: the files that it rejected, and those it kept with a warning.

ImageFilter writes it, and each line of its lists describes one file.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.files import json_object
from imgpipe.pipeline.output import run_folders
from imgpipe.pipeline.output.run_folders import RUNS

_MANIFEST, _WARNINGS = "manifest.jsonl", "warnings.jsonl"
_HASH = re.compile(r"[0-9a-f]{6,64}")


@dataclass(frozen=True)
class Row:
    """A line of the manifest or of the list of warnings."""

    path: str
    image_hash: str
    reason: str
    detail: str
    label: str = ""
    split: str = ""
    override: str = ""
    stored: str = ""


def find(path: Path) -> Path:
    """Find the quarantine folder of a run.

    Args:
        path: Output folder of the runs, its folder of versions, a version, folder of a run, or a
            quarantine folder.

    Returns:
        `path` itself, or the folder that the run wrote: for a version the run that published it,
        for an output folder its newest run.

    Raises:
        ResourceError: There is none.
    """
    path = path.expanduser()
    if (path / _MANIFEST).is_file():
        return path
    named, *others = runs(path)
    for run in (named, *others):
        folder = of_run(run)
        if folder is not None:
            return folder
    found = [manifest.parent for manifest in named.glob(f"**/quarantine/*/{_MANIFEST}")]
    if not found:
        raise ResourceError(
            f"no quarantine in {named}, because no run has written its results there. Name the "
            "output folder of a run, such as: --out imgpipe-out"
        )
    # Nothing says which run wrote them, so their times decide.
    return max(found, key=lambda folder: folder.stat().st_mtime)


def runs(path: Path) -> list[Path]:
    """Return the folder that a path names, then the folders of the runs in it, the newest first.

    Args:
        path: See `find`. A version names the run that published it, or else the output folder.
    """
    named = _above_versions(path)
    return [named, *reversed(run_folders.in_order(named.glob(f"{RUNS}/*/")))]


def _above_versions(path: Path) -> Path:
    """Return the output folder for its folder of versions, the run for a version, or the path."""
    from imgpipe.pipeline.output import past_runs  # `imgpipe --help` imports this module

    absolute = past_runs.plain(path)
    if (absolute / RUNS).is_dir() or RUNS in (absolute.name, absolute.parent.name):
        return absolute
    above = (absolute.parent, absolute.parent.parent)
    out = next((one for one in above if (one / RUNS).is_dir()), None)
    if out is None:
        return absolute
    if not absolute.name.isdecimal():
        return out
    pushed = past_runs.publishers(past_runs.read(out), absolute)
    return pushed[-1].folder if pushed else out


def of_run(run: Path) -> Path | None:
    """Return the quarantine that the facts of a run name, None if it no longer exists."""
    try:
        uri = json_object.read(run / "facts.json")["quarantine"]
        folder = run_folders.artifact(str(uri).removeprefix("file://"), run.parent.parent)
        return folder if (folder / _MANIFEST).is_file() else None
    except (OSError, ValueError, KeyError):  # a path with a null byte is a ValueError
        return None


def read(folder: Path, warnings: bool = False) -> list[Row]:
    """Read the manifest of a quarantine.

    Args:
        folder: The quarantine folder.
        warnings: Whether to read the list of kept files with a warning instead.

    Returns:
        Its rows, in the order of the file.

    Raises:
        ResourceError: A line is damaged.
    """
    file = folder / (_WARNINGS if warnings else _MANIFEST)
    known = {field.name for field in fields(Row)}
    rows = []
    for number, line in enumerate(file.read_bytes().splitlines() if file.is_file() else (), 1):
        try:
            values: dict[str, Any] = json.loads(line)
            row = Row(**{key: str(value) for key, value in values.items() if key in known})
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ResourceError(
                f"{file}, line {number}: expected a JSON object that a run wrote, received "
                f"{line[:80]!r} ({error}). Restore the file, or run again."
            ) from None
        rows.append(row)
    return rows


def select(rows: Iterable[Row], which: Sequence[str], reason: str | None) -> list[Row]:
    """Select rows.

    Args:
        rows: Rows of a quarantine.
        which: Paths, patterns or content hashes; empty for all rows.
        reason: Only rows with this reason; None for all.

    Raises:
        ConfigError: No row has the reason, or a word matches no row.
    """
    everything = list(rows)
    reasons = sorted({row.reason for row in everything})
    if reason is not None and reason not in reasons:
        raise ConfigError(
            f"no file has the reason {reason!r}. The reasons are: {', '.join(reasons) or 'none'}."
        )
    found = [row for row in everything if reason in (None, row.reason)]
    if missing := [word for word in which if not any(_matches(row, word) for row in found)]:
        raise ConfigError(
            f"not in quarantine: {', '.join(missing)}. `imgpipe quarantine list` lists all files."
        )
    return [row for row in found if not which or any(_matches(row, word) for word in which)]


def _matches(row: Row, word: str) -> bool:
    if _HASH.fullmatch(word) and row.image_hash.startswith(word):
        return True
    return word == row.path or fnmatch.fnmatchcase(row.path, word)
