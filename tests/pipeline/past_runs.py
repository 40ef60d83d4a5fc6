"""Makes folders of past runs as `imgpipe run` leaves them, without running anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from imgpipe.components.common.shares import wilson
from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.execution.run_record import build_summary

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
    """Write the folder of a past run and return it.

    Args:
        out: The output folder, below which the run is ``runs/NAME``.
        name: The name of the run.
        status: Status of the run, such as "blessed" or "refused". If it is "", there is no summary.
        correct: How many of the judged images were classified correctly; None for no evaluation.
        of: How many images were judged.
        images: How many training images the classes cat and dog have.
        version: Number of the version that the run published, or None.
        settings: Settings of the run, such as ``train.epochs=33``.
        artifacts: Paths of the artifacts by component and output; None if they were not recorded.
        folds: Mean accuracy of the cross-validation; None if there was none.
    """
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
            "reasons": [],
        }
    if folds is not None:
        facts["cross_validation"] = {"folds": 5, "mean": folds, "std": 0.02}
    if version is not None:
        facts["push"] = {"status": "pushed", "version": str(version), "path": str(out / "model")}
    timings = {"total_s": 63.0, "import_s": 1.0, "components": {}, "cached": []}
    page = str(folder / "report.html")
    built = build_summary(facts, timings, page, status, f"{status}: a sentence", "run.log")
    (folder / "summary.json").write_text(json.dumps(built))
    (folder / "report.html").write_text("<p>page")
    return folder
