"""A run that would repeat an earlier one: its outcome is known without TensorFlow and TFX.

A run that has ended leaves `plan.outcome_key`. If a later run has the same settings and key, and
everything that the earlier one made is still there, then it would take every component from the
cache and end in the same way.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import cast

from imgpipe.components.common.storage import integrity, manifest
from imgpipe.components.run_record.run_folder import ARTIFACTS, CONFIG, SUMMARY
from imgpipe.models.files import json_object
from imgpipe.models.files.regular_files import sha256
from imgpipe.pipeline.output import past_run
from imgpipe.pipeline.output.output_folder import OutputFolder
from imgpipe.pipeline.output.past_run import PastRun
from imgpipe.pipeline.output.run_summary import RunSummary
from imgpipe.pipeline.results import Run

FILE = "repeat.json"


def remember(run: Run, outcome_key: str) -> None:
    """Write the key of a run that ended with a model into its folder."""
    # Where another version is served now, the verdict asks for a new run.
    if run.exit_code in (0, 3) and "other_version" not in run.summary["push"]["refused_by"]:
        keys = {"key": outcome_key, "files": _digests(run.folder)}
        json_object.write(run.folder / FILE, keys)


def candidate(folder: OutputFolder, settings: str) -> PastRun | None:
    """Return the newest run of an output folder, if it had these settings and ended with a model.

    After any other run, DataGate's last decision and the newest run are not those of a run that is
    repeated. `settings` is the configuration as TOML.
    """
    started = folder.started
    if not started:
        return None
    # The digests are compared too, because an edited summary would be reported as this outcome.
    if json_object.read_or_empty(started[-1] / FILE).get("files") != _digests(started[-1]):
        return None
    written = settings.encode("utf-8", "backslashreplace")  # as `atomic_write` does
    try:
        settings_then = (started[-1] / CONFIG).read_bytes()
    except OSError:  # a run is begun
        return None
    return past_run.read(started[-1]) if settings_then == written else None


def outcome(run: PastRun, outcome_key: str, versions: Path, began: float) -> Run | None:
    """Return the outcome of a run with this key that repeats the candidate `run`.

    `versions` is the folder of the published versions, and `began` when this run began, as a time
    of `time.monotonic`. None if the images differ, or something that the candidate made is not
    intact or no longer served.
    """
    summary = run.summary
    artifacts = run.artifacts or {}
    # By size and time, as a run compares the artifacts that it takes from the cache.
    folders = [Path(uri) for outputs in artifacts.values() for uri in outputs.values()]
    if (
        summary is None
        or outcome_key != json_object.read_or_empty(run.folder / FILE).get("key")
        or summary["status"] not in ("blessed", "not_blessed", "not_published")
        or not _is_served(summary, versions)
        or not folders
        or any(integrity.damage(folder, complete=False) for folder in folders)
        or not summary["report"]
        or not Path(summary["report"]).is_file()
    ):
        return None
    push = summary["push"]
    bank = summary["bank"]
    total = round(time.monotonic() - began, 3)
    content = {
        **summary,
        "push": {**push, "status": push["status"].replace("pushed", "unchanged")},
        "cached": sorted(artifacts),
        # The repetition would find the features that the run computed in the bank.
        "bank": {"forward_passes": 0, "reused": bank["forward_passes"] + bank["reused"]},
        "timings": {"total_s": total, "import_s": 0.0, "components": {}},
    }
    code = 3 if push["status"] == "refused" else 0
    return Run(run.folder, cast(RunSummary, content), exit_code=code, repeated=True)


def _is_served(summary: RunSummary, versions: Path) -> bool:
    """Whether the version that a run published is served now, or none was published."""
    push = summary["push"]
    served = manifest.served(versions) if push["status"] != "refused" else None
    return push["version"] == (str(served.number) if served else None)


def _digests(directory: Path) -> dict[str, str]:
    """Return digests of the files from which a repetition takes its outcome."""
    files = [directory / name for name in (SUMMARY, ARTIFACTS)]
    return {file.name: sha256(file) for file in files if file.is_file()}
