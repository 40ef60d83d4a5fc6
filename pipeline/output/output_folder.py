"""Checks of the output folder of earlier runs, for ``imgpipe doctor``.

A run compares only the sizes and times of the files that it takes from the cache. These checks read
every byte, so that a failing disk is noticed before its content is needed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path

from imgpipe.components.storage import integrity, manifest
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.configuration.config import Config
from imgpipe.pipeline.machine import Finding
from imgpipe.pipeline.output import metadata_file, past_runs, run_folders
from imgpipe.pipeline.output.run_folders import CONFIG, RUNS

_NAMED = 3  # damaged items that are named; all others are counted


def metadata(out: Path) -> Finding:
    """Check whether a run can use the metadata database.

    Args:
        out: Output folder of the runs.
    """
    try:
        wrong = metadata_file.fault(out)
    except ResourceError as error:
        return Finding("metadata", False, str(error), fatal=True)
    there = "can be used" if (out / metadata_file.NAME).exists() else "none yet"
    advice = "The next run sets it aside and executes every component again."
    return Finding("metadata", not wrong, wrong or there, advice)


def served_versions(out: Path) -> Finding:
    """Check whether every published version is unchanged.

    Args:
        out: Output folder of the runs.
    """
    base = _settings(out).push_directory
    numbers = manifest.version_numbers(base)
    damaged = {n: manifest.damage(base / str(n), complete=True) for n in numbers}
    lines = [f"version {number}: {what}" for number, what in damaged.items() if what]
    return _finding(
        "served versions",
        lines,
        f"{len(numbers)} intact in {base}",
        "Run again, which publishes the model under a new number, or publish an intact version "
        f"with: imgpipe rollback {shlex.quote(str(base))} --to VERSION.",
        fatal=True,
    )


def artifacts(out: Path) -> Finding:
    """Check whether every sealed artifact is unchanged.

    Args:
        out: Output folder of the runs.
    """
    seals = sorted((out / "artifacts").glob("*/*/.seal-*.json"))
    folders = [seal.with_name(seal.name[len(".seal-") : -len(".json")]) for seal in seals]
    folders = [folder for folder in folders if folder.is_dir()]  # a seal may outlive its artifact
    damaged = {f: integrity.damage(f, complete=True) for f in folders}
    lines = [f"{folder.relative_to(out)}: {what}" for folder, what in damaged.items() if what]
    return _finding(
        "artifacts",
        lines,
        f"{len(folders)} intact",
        "Run again, which computes the damaged artifacts again where they are needed.",
    )


def stores(out: Path) -> Finding:
    """Check whether the feature bank and the inspection cache can be written.

    Args:
        out: Output folder of the runs.
    """
    config = _settings(out)
    paths = {config.bank_store, config.judge_store}
    fixed = [path for path in sorted(paths) if path.exists() and not os.access(path, os.W_OK)]
    advice = "Change its permissions, or name another folder: bank.store or judge.store."
    lines = [f"{path} cannot be written" for path in fixed]
    return _finding("stores", lines, "can be used", advice, fatal=True)


def folders(out: Path) -> Finding:
    """Check whether files are in the way of the folders that a run writes into.

    Args:
        out: Output folder of the runs.
    """
    paths = (out, out / RUNS, out / "artifacts", _settings(out).push_directory)
    files = [path for path in paths if path.exists() and not path.is_dir()]
    return _finding(
        "folders",
        [f"{file} is a file, expected a folder" for file in files],
        "can be used" if out.is_dir() else f"{out} does not exist yet; a run creates it",
        "Move the file away, or choose another folder with --out OUT or push.directory.",
        fatal=True,
    )


def last_push(out: Path) -> Finding:
    """Check whether the version that was published last is still there.

    Args:
        out: Output folder of the runs.
    """
    # `served_versions` sees only folders that exist, so it cannot miss one that was removed.
    published = [run for run in past_runs.read(out) if run.version is not None]
    if not published:
        return Finding("last push", True, "none yet")
    version = _settings(out, published[-1].folder).push_directory / str(published[-1].version)
    fit = version.is_dir()
    state = "is there" if fit else f"is missing; the run {published[-1].name} published it"
    advice = "Run again, which publishes the model under a new number."
    return Finding("last push", fit, f"{version} {state}", advice)


def accepted_schema(out: Path) -> Finding:
    """Check whether the accepted schema can be read.

    Args:
        out: Output folder of the runs.
    """
    file = _settings(out).schema_file
    if not file.exists():
        return Finding("schema", True, "none yet")
    from imgpipe.components.data_gate import schema

    try:
        schema.read(file)
    except (ConfigError, OSError) as error:
        return Finding("schema", False, str(error), fatal=True)
    return Finding("schema", True, "can be read")


#: `folders` comes first: if there is a file instead of a folder, the other checks would only
#: report that the folder is missing.
CHECKS: tuple[Callable[[Path], Finding], ...] = (
    folders,
    metadata,
    served_versions,
    last_push,
    artifacts,
    accepted_schema,
    stores,
)


def _settings(out: Path, preferred: Path | None = None) -> Config:
    """Return the configuration of the newest run, which may name folders outside of `out`.

    Without a readable one, these are the defaults. An output folder that was moved is taken where
    it is now. The configuration of the run in the folder `preferred` is taken if it is readable.
    """
    folder = f"run.out={json.dumps(str(out))}"
    newest_first = reversed(run_folders.in_order((out / RUNS).glob("*/")))
    for run in [*([preferred] if preferred else []), *newest_first]:
        with contextlib.suppress(ConfigError):
            return configs.load(run / CONFIG, [folder])
    return configs.build({}, [folder])


def _finding(
    name: str, damaged: list[str], intact: str, advice: str, fatal: bool = False
) -> Finding:
    """Build the finding of a check from the damaged items, or from what it says without one."""
    more = f", and {len(damaged) - _NAMED} more" if len(damaged) > _NAMED else ""
    detail = "; ".join(damaged[:_NAMED]) + more if damaged else intact
    return Finding(name, not damaged, detail, advice, fatal=fatal)
