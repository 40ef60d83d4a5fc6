"""A run that would repeat an earlier one: its outcome is known without TensorFlow and TFX.

A run that has ended leaves its keys, `plan.settings_key` and `plan.outcome_key`. If a later run has
the same keys, and everything that the earlier one made is still there, then it would take every
component from the cache and end in the same way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from imgpipe.components.common.storage import integrity, manifest
from imgpipe.components.run_record.run_files import ARTIFACTS, SUMMARY
from imgpipe.models.files import json_object
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.pipeline.output.output_folder import OutputFolder
from imgpipe.pipeline.records.run_summary import RunSummary

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
    keys = {"settings": settings_key, "key": outcome_key, "files": _digests(directory)}
    atomic_write(directory / FILE, json.dumps(keys, indent=1) + "\n")


@dataclass(frozen=True)
class EndedRun:
    """The newest run, which ended with a model and had the settings of this one.

    Attributes:
        directory: Folder of the run.
        outcome_key: `plan.outcome_key` when it ended.
        summary: Its summary.
        artifacts: URI of each output of its components, by component and name.
    """

    directory: Path
    outcome_key: str
    summary: RunSummary
    artifacts: Mapping[str, Mapping[str, str]]

    def repetition(self, outcome_key: str, versions: Path) -> RunSummary | None:
        """Build the summary of a repetition.

        Args:
            outcome_key: `plan.outcome_key` of this run.
            versions: Folder of the published versions.

        Returns:
            The summary; None if the images differ, or something that the run made is not intact
            or no longer served.
        """
        summary = self.summary
        push = summary["push"]
        bank = summary["bank"]
        served = manifest.served(versions) if push["status"] != "refused" else None
        # By size and time, as a run compares the artifacts that it takes from the cache.
        folders = [Path(uri) for outputs in self.artifacts.values() for uri in outputs.values()]
        if (
            outcome_key != self.outcome_key
            or summary["status"] not in ("blessed", "not_blessed", "not_published")
            or push["version"] != (str(served.number) if served else None)
            or not folders
            or any(integrity.damage(folder, complete=False) for folder in folders)
            or not summary["report"]
            or not Path(summary["report"]).is_file()
        ):
            return None
        content = {
            **summary,
            "push": {**push, "status": push["status"].replace("pushed", "unchanged")},
            "cached": sorted(self.artifacts),
            # The repetition would find the features that the run computed in the bank.
            "bank": {"forward_passes": 0, "reused": bank["forward_passes"] + bank["reused"]},
        }
        return cast(RunSummary, content)


def candidate(folder: OutputFolder, settings_key: str) -> EndedRun | None:
    """Find the newest run, if it ended with a model and had the settings of this run.

    After any other run, DataGate's last decision and the newest run are not those of a run that is
    repeated. None also if that run had too many images, or its files are not those that it wrote.

    Args:
        folder: The output folder.
        settings_key: `plan.settings_key` of this run.
    """
    started = folder.started
    if not started:
        return None
    directory = started[-1]
    keys = json_object.read_or_empty(directory / FILE)
    # The digests are compared too, because an edited summary would be reported as this outcome.
    if keys.get("settings") != settings_key or keys.get("files") != _digests(directory):
        return None
    summary = cast(RunSummary, json_object.read_or_empty(directory / SUMMARY))
    artifacts = json_object.read_or_empty(directory / ARTIFACTS)
    data = summary["data"]
    if data is None or not 0 < data["in"] <= MOST_IMAGES:
        return None
    return EndedRun(directory, keys["key"], summary, artifacts)


def _digests(directory: Path) -> dict[str, str]:
    """Digests of the files from which a repetition takes its outcome."""
    return {name: integrity.sha256_or_empty(directory / name) for name in (SUMMARY, ARTIFACTS)}
