"""A run that would repeat an earlier one: its outcome is known without TensorFlow and TFX.

A run that has ended leaves its keys, `plan.settings_key` and `plan.outcome_key`. If a later run has
the same keys, and everything that the earlier one made is still there, then it would take every
component from the cache and end in the same way.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from imgpipe.components.common.storage import integrity, manifest
from imgpipe.components.run_record.run_files import CONFIG
from imgpipe.models.files import json_object
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.pipeline.output import run_folders
from imgpipe.pipeline.output.run_folders import ARTIFACTS, RUNS, SUMMARY

FILE = "repeat.json"
#: Number of images above which no earlier run is searched for: hashing them takes longer than the
#: imports, and is done while these are running.
MOST_IMAGES = 50_000


def remember(directory: Path, settings_key: str, outcome_key: str) -> None:
    """Write the keys of a run into its folder.

    Args:
        directory: Folder of the run.
        settings_key: `plan.settings_key` when the run began, because a new version may be installed
            before it ends.
        outcome_key: `plan.outcome_key` when it ended.
    """
    keys = {"settings": settings_key, "key": outcome_key, "files": _outcome(directory)}
    atomic_write(directory / FILE, json.dumps(keys, indent=1) + "\n")


def candidate(out: Path, settings_key: str) -> Path | None:
    """Find the folder of the newest run, if it ended with a model and had the settings of this run.

    After any other run, DataGate's last decision and the newest run are not those of a run that is
    repeated. None also if that run had too many images, or its files are not those that it wrote.

    Args:
        out: Output folder.
        settings_key: `plan.settings_key` of this run.
    """
    started = run_folders.in_order(one.parent for one in out.glob(f"{RUNS}/*/{CONFIG}"))
    directory = started[-1] if started else out
    outcome = _outcome(directory)
    keys = json_object.read_or_empty(directory / FILE)
    # The digests are compared too, because an edited summary would be reported as this outcome.
    if keys.get("settings") != settings_key or keys.get("files") != outcome:
        return None
    images = json_object.read_or_empty(directory / SUMMARY)["data"]["in"]
    return directory if 0 < images <= MOST_IMAGES else None


def summary(directory: Path, push_directory: Path, outcome_key: str) -> dict[str, Any] | None:
    """Build the summary of a repetition of a run.

    Args:
        directory: Folder of the run, which `candidate` found.
        push_directory: Folder of the published versions.
        outcome_key: `plan.outcome_key` of this run.

    Returns:
        The summary; None if the images differ, or something that the run made is not intact or no
        longer served.
    """
    keys = json_object.read_or_empty(directory / FILE)
    before = json_object.read_or_empty(directory / SUMMARY)
    artifacts = json_object.read_or_empty(directory / ARTIFACTS)
    # By size and time, as a run compares the artifacts that it takes from the cache.
    folders = [Path(uri) for outputs in artifacts.values() for uri in outputs.values()]
    bank = before["bank"]
    push = before["push"]
    served = push["status"] != "refused" and manifest.served(push_directory)
    if (
        keys.get("key") != outcome_key
        or before["status"] not in ("blessed", "not_blessed", "not_published")
        or push["version"] != (str(served.number) if served else None)
        or not folders
        or any(integrity.damage(folder, complete=False) for folder in folders)
        or not before["report"]
        or not Path(before["report"]).is_file()
    ):
        return None
    return {
        **before,
        "push": {**push, "status": push["status"].replace("pushed", "unchanged")},
        "cached": sorted(artifacts),
        # The repetition would find the features that the run computed in the bank.
        "bank": {"forward_passes": 0, "reused": bank["forward_passes"] + bank["reused"]},
    }


def _outcome(directory: Path) -> dict[str, str]:
    """Digests of the files from which a repetition takes its outcome."""
    return {name: integrity.sha256_or_empty(directory / name) for name in (SUMMARY, ARTIFACTS)}
