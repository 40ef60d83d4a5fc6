"""A drawn data set with its output folder, and the way to run on it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Small enough for seconds: some 70 images of 112 px, two augmented views.
SETTINGS = {
    "run": {"name": "hands"},
    "split": {"validation": 0.25, "test": 0.1},
    "gate": {"min_train": 5, "min_validation": 1, "max_rejected_share": 0.3},
    "views": {"count": 2},
    "model": {"image_size": 112},
    "train": {"epochs": 8, "batch_size": 32, "minutes": 0.0},
    "evaluate": {"threshold": 0.5, "cross_validate": 0},
}


@dataclass(frozen=True)
class Case:
    """A data set, its output folder, and the way to run on them."""

    photos: Path
    out: Path

    def run(self, *assignments: str, start: str | None = None) -> Any:
        """One run with overrides; returns the outcome."""
        from imgpipe.pipeline.configuration import config as configs
        from imgpipe.pipeline.execution.run import execute

        tree = {**SETTINGS, "run": {"name": "hands", "out": str(self.out)}}
        tree["data"] = {"source": str(self.photos)}
        return execute(configs.build(tree, assignments), start)

    def copy(self, folder: Path) -> Case:
        """The same data with an output folder of its own, sharing nothing."""
        shutil.copytree(self.photos, folder / "photos")
        return Case(folder / "photos", folder / "out")
