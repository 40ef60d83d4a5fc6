"""Folders of runs as `imgpipe run` leaves them, without running anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from imgpipe.components.report.metrics import wilson
from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.execution import summary

CLASSES = ("cat", "dog")


def leave(
    out: Path,
    name: str,
    *,
    status: str = "blessed",
    correct: int | None = 18,
    of: int = 20,
    images: tuple[int, int] = (40, 40),
    version: int | None = None,
    settings: tuple[str, ...] = (),
    artifacts: dict[str, dict[str, str]] | None = None,
    folds: float | None = None,
) -> Path:
    """Leave the folder of a run; with status "" one without a summary."""
    folder = out / "runs" / name
    folder.mkdir(parents=True)
    config = configs.build({}, [f"run.out={json.dumps(str(out))}", *settings])
    (folder / "config.toml").write_text(configs.to_toml(config))
    if artifacts is not None:
        (folder / "artifacts.json").write_text(json.dumps(artifacts))
    if not status:
        return folder
    facts: dict[str, Any] = {
        "settings": {"name": "n", "backbone": "b", "vocabulary": CLASSES, "image_size": 224},
        "data": {"in": 99, "kept": sum(images), "rejected": 99 - sum(images)}
        | {"by_split": {"train": dict(zip(CLASSES, images, strict=True))}},
    }
    if correct is not None:
        facts["gate"] = {
            "split": "validation",
            "threshold": 0.9,
            "value": correct / of,
            "count": of,
            "correct": correct,
            "ci95": wilson(correct, of),
            "baseline": None,
            "failed": [],
        }
    if folds is not None:
        facts["cross_validation"] = {
            **dict.fromkeys(summary.FOLDS),
            "folds": 5,
            "mean": folds,
            "std": 0.02,
        }
    if version is not None:
        facts["push"] = {"status": "pushed", "version": str(version), "path": str(out / "model")}
    timings = {"total_s": 63.0, "import_s": 1.0, "components": {}, "cached": []}
    page = str(folder / "report.html")
    built = summary.build(facts, timings, page, status, f"{status}: a sentence", "run.log")
    (folder / "summary.json").write_text(json.dumps(built))
    (folder / "report.html").write_text("<p>page")
    return folder
