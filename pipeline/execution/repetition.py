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

from imgpipe.components.common.storage import integrity, manifest
from imgpipe.models.files import json_object, source_code
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.pipeline.configuration.config import Config
from imgpipe.pipeline.output import run_folders
from imgpipe.pipeline.output.run_folders import ARTIFACTS, CONFIG, RUNS, SUMMARY
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


def remember(directory: Path, config: Config, plan: Plan, settings_key: str) -> None:
    """Write the key of a run into its folder; `settings` returned a part of it at the start."""
    key = {"settings": settings_key, "key": _key(config, plan), "files": _outcome(directory)}
    atomic_write(directory / FILE, json.dumps(key, indent=1) + "\n")


def candidate(config: Config) -> Path | None:
    """Find the folder of the newest run, if it ended with a model and had the settings of this run.

    After any other run, DataGate's last decision and the newest run are not those of a run that is
    repeated. None also if that run had too many images, or its files are not those that it wrote.
    """
    started = run_folders.in_order(one.parent for one in config.out.glob(f"{RUNS}/*/{CONFIG}"))
    directory = started[-1] if started else config.out
    known = _read(directory / FILE)
    # The digests are compared too, because an edited summary would be reported as this outcome.
    if known.get("settings") != settings(config) or known.get("files") != _outcome(directory):
        return None
    images = _read(directory / SUMMARY)["data"]["in"]
    return directory if 0 < images <= MOST_IMAGES else None


def summary(directory: Path, config: Config, plan: Plan) -> dict[str, Any] | None:
    """Build the summary of a repetition of the run that `candidate` found.

    None if the images differ, or something that the run made is not intact or no longer served.
    """
    before, artifacts = _read(directory / SUMMARY), _read(directory / ARTIFACTS)
    # By size and time, as a run compares the artifacts that it takes from the cache.
    folders = [Path(uri) for outputs in artifacts.values() for uri in outputs.values()]
    made, push = before["bank"], before["push"]
    served = push["status"] != "refused" and manifest.served(config.push_directory)
    if (
        _read(directory / FILE).get("key") != _key(config, plan)
        or before["status"] not in ("blessed", "not_blessed")
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
        "bank": {"forward_passes": 0, "reused": made["forward_passes"] + made["reused"]},
    }


def _key(config: Config, plan: Plan) -> str:
    """Compute the fingerprint of the images and files that decide the outcome of a run."""
    return _digest([asdict(plan), _content(config.schema_file)])


def _outcome(directory: Path) -> dict[str, str]:
    """Digests of the files from which a repetition takes its outcome."""
    return {name: _content(directory / name) for name in (SUMMARY, ARTIFACTS)}


def _content(file: Path) -> str:
    return integrity.sha256(file) if file.is_file() else ""


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one if there is none."""
    try:
        return json_object.read(path)
    except (OSError, ValueError):
        return {}
