"""Checks of the output folder of earlier runs, for `imgpipe doctor`.

A run compares only the sizes and times of the files that it takes from the cache. These checks read
every byte, so that a failing disk is noticed before its content is needed.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from imgpipe.components.common.formatting import plural
from imgpipe.components.common.storage import integrity, manifest
from imgpipe.components.model_pusher.settings import VERSIONS
from imgpipe.models.backbones import registry
from imgpipe.models.errors import ResourceError
from imgpipe.models.files.described_files import version_damage
from imgpipe.models.files.plain_paths import pattern_in
from imgpipe.models.settings.model import ModelSettings
from imgpipe.pipeline.doctor.machine import MachineFinding
from imgpipe.pipeline.output import metadata_file, past_runs
from imgpipe.pipeline.output.run_folders import ARTIFACT_ROOT

_NAMED = 3  # damaged items that are named; all others are counted


def weights(out: Path) -> MachineFinding:
    """Check the packaged weights of the default backbone and of the backbone of the last run.

    Those of other backbones are optional, and are only listed where they are not installed.

    Args:
        out: Output folder of the runs.
    """
    runs = past_runs.read(out)
    last = runs[-1].config if runs else {}
    needed: list[object] = [ModelSettings().backbone]
    if last.get("model.weights") == "imagenet":
        needed.append(last.get("model.builder") or last.get("model.backbone"))
    packages = registry.packaged_weights()
    installed = [package.distribution for package in packages.values() if package.installed]
    missing = [package.distribution for package in packages.values() if not package.installed]
    faults = []
    for name, packaged in packages.items():
        if name in needed:
            try:
                packaged.content()
            except ResourceError as error:
                faults.append(str(error))
    optional = f"; not installed: {', '.join(missing)} (optional)" if missing else ""
    return _finding("weights", faults, ", ".join(installed) + optional, "", fatal=True)


def folder(out: Path) -> MachineFinding:
    """Check whether TensorFlow can read a model in the output folder.

    Args:
        out: Output folder of the runs.
    """
    why = pattern_in(out)
    return MachineFinding("output folder", not why, why or str(out), fatal=True)


def metadata(out: Path) -> MachineFinding:
    """Check whether a run can use the metadata database.

    Args:
        out: Output folder of the runs.
    """
    try:
        wrong = metadata_file.fault(out)
    except ResourceError as error:
        return MachineFinding("metadata", False, str(error), fatal=True)
    intact = "can be used"
    if not (out / metadata_file.NAME).exists():
        intact = "none yet"
        runs = past_runs.read(out)
        if runs:
            wrong = f"{metadata_file.NAME} is missing beside {plural(len(runs), 'run')}"
    advice = "The next run starts a new one and executes every component again."
    return MachineFinding("metadata", not wrong, wrong or intact, advice)


def served_versions(out: Path) -> MachineFinding:
    """Check whether every published version is unchanged.

    Args:
        out: Output folder of the runs.
    """
    runs = past_runs.read(out)
    base = runs[-1].versions_folder if runs else out / VERSIONS
    numbers = manifest.version_numbers(base)
    damaged = {n: version_damage(base / str(n), "all") for n in numbers}
    lines = [f"version {number}: {what}" for number, what in damaged.items() if what]
    return _finding(
        "served versions",
        lines,
        f"{len(numbers)} intact in {base}",
        "Run again, which publishes the model under a new number, or publish an intact version "
        f"with: imgpipe rollback {shlex.quote(str(base))} --to VERSION.",
        fatal=True,
    )


def artifacts(out: Path) -> MachineFinding:
    """Check whether every sealed artifact is unchanged.

    Args:
        out: Output folder of the runs.
    """
    seals = sorted((out / ARTIFACT_ROOT).glob("*/*/.seal-*.json"))
    folders = [seal.with_name(seal.name[len(".seal-") : -len(".json")]) for seal in seals]
    folders = [folder for folder in folders if folder.is_dir()]  # a seal may outlive its artifact
    damaged = {f: integrity.damage(f, complete=True) for f in folders}
    lines = [
        f"{folder.relative_to(out)}: {what}"
        for folder, what in damaged.items()
        if what not in ("", integrity.EMPTIED)
    ]
    return _finding(
        "artifacts",
        lines,
        f"{len(folders)} intact",
        "Run again, which computes the damaged artifacts again where they are needed.",
    )


CHECKS: tuple[Callable[[Path], MachineFinding], ...] = (
    folder,
    weights,
    metadata,
    served_versions,
    artifacts,
)


def _finding(
    name: str, damaged: list[str], intact: str, advice: str, fatal: bool = False
) -> MachineFinding:
    """Build the finding of a check from the damaged items, or from what it says without one."""
    more = f", and {len(damaged) - _NAMED} more" if len(damaged) > _NAMED else ""
    detail = "; ".join(damaged[:_NAMED]) + more if damaged else intact
    return MachineFinding(name, not damaged, detail, advice, fatal=fatal)
