"""A run that would repeat an earlier one: its outcome is known without TensorFlow and TFX.

A run that has ended leaves its key: configuration, images, earlier versions, source code and
versions of packages. If a later run has the same key, and everything that the earlier one made is
still there, then it would take every component from the cache and end in the same way.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from imgpipe.components.storage import integrity, manifest
from imgpipe.models.files import json_object, source_code
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.pipeline.configuration.config import Config
from imgpipe.pipeline.output import run_folders
from imgpipe.pipeline.output.run_folders import ARTIFACTS, CONFIG, SUMMARY
from imgpipe.pipeline.plan import Plan

FILE = "repeat.json"
#: Number of images above which no earlier run is searched for: hashing them takes longer than the
#: imports, and is done while these are running.
MOST_IMAGES = 50_000


def settings(config: Config) -> str:
    """Compute the fingerprint of what is known before the images are listed.

    A run does so when it starts, because a new version may be installed before it ends.
    """
    return _digest(
        [config.with_absolute_paths().model_dump(mode="json"), source_code.fingerprint()]
    )


def _key(config: Config, plan: Plan) -> str:
    """Compute the fingerprint of the images and files that decide the outcome of a run."""
    # Of the overrides also entries that nobody confirmed, which the report counts.
    return _digest([asdict(plan), _content(config.overrides_file), _content(config.schema_file)])


def _content(file: Path | None) -> str:
    return integrity.sha256(file) if file is not None and file.is_file() else ""


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def remember(directory: Path, config: Config, plan: Plan, settings_key: str) -> None:
    """Write the key of a run that has ended into its folder.

    Args:
        directory: Folder of the run.
        config: The configuration.
        plan: Plan of the run.
        settings_key: What `settings` returned when the run started.
    """
    key = {"settings": settings_key, "key": _key(config, plan), "files": _digests(directory)}
    atomic_write(directory / FILE, json.dumps(key, indent=1) + "\n")


def _digests(directory: Path) -> dict[str, str]:
    """Digests of the files from which a repetition takes its outcome."""
    return {name: _content(directory / name) for name in (SUMMARY, ARTIFACTS)}


def candidate(config: Config, runs: Path) -> Path | None:
    """Find the newest run, if it ended with a model and its settings are those of this run.

    After any other run, DataGate's last decision and the newest run are not those of a run that is
    repeated.

    Args:
        config: The configuration.
        runs: Folder of all runs.

    Returns:
        The folder of that run; None if there is none, if it had too many images to look further, or
        if its files are not those that it wrote.
    """
    started = run_folders.in_order(file.parent for file in runs.glob(f"*/{CONFIG}"))
    if not started or not (started[-1] / FILE).is_file():
        return None
    directory = started[-1]
    known = _read(directory / FILE)
    # The digests are compared too, because an edited summary would be reported as this outcome.
    if known.get("settings") != settings(config) or known.get("files") != _digests(directory):
        return None
    images = _read(directory / SUMMARY)["data"]["in"]
    return directory if 0 < images <= MOST_IMAGES else None


def summary(directory: Path, config: Config, plan: Plan) -> dict[str, Any] | None:
    """Build the summary of the repetition, if all that the run made is intact.

    Args:
        directory: Folder of the run that `candidate` found.
        config: The configuration.
        plan: Plan of this run.

    Returns:
        The summary, in which every component is cached; None if the run has to be repeated.
    """
    before, artifacts = _read(directory / SUMMARY), _read(directory / ARTIFACTS)
    # By size and time, as a run compares the artifacts that it takes from the cache.
    folders = [Path(uri) for outputs in artifacts.values() for uri in outputs.values()]
    if (
        _read(directory / FILE).get("key") != _key(config, plan)
        or before.get("status") not in ("blessed", "not_blessed")
        or not _is_served(config, before["push"])
        or not folders
        or any(integrity.damage(folder, complete=False) for folder in folders)
        or not before["report"]
        or not Path(before["report"]).is_file()
    ):
        return None
    made, push = before["bank"], before["push"]
    return {
        **before,
        "push": {**push, "status": push["status"].replace("pushed", "unchanged")},
        "cached": sorted(artifacts),
        # The repetition would find the features that the run computed in the bank.
        "bank": {"forward_passes": 0, "reused": made["forward_passes"] + made["reused"]},
    }


def _is_served(config: Config, push: dict[str, Any]) -> bool:
    """Whether the version that the run published, if any, is still the newest, and intact."""
    if push["status"] == "refused":  # no version was published
        return True
    newest = manifest.latest(config.push_directory)
    # A server loads the highest number, even if that version is damaged.
    highest = max(manifest.version_numbers(config.push_directory), default=0)
    return newest is not None and newest.number == highest and str(highest) == push["version"]


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one if there is none."""
    try:
        return json_object.read(path)
    except (OSError, ValueError):
        return {}
