"""A data set with its output folder, on which a test runs the pipeline."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Settings of a run that takes seconds, on some 70 images of 112 px with two augmented views.
SETTINGS = {
    "run": {"name": "hands"},
    "split": {"validation": 0.25, "test": 0.1},
    "gate": {"min_train": 5, "min_validation": 1, "max_rejected_share": 0.3},
    "model": {"image_size": 112},
    "train": {"minutes": 0.0},
    "course": {"epochs": 8, "batch_size": 32, "views": {"count": 2}},
    "evaluate": {"threshold": 0.5, "cross_validate": 0},
}
#: Settings with which the head learns almost nothing.
UNTRAINED = ("course.optimizer=adam", "course.epochs=1", "course.learning_rate=1e-7")


def as_assignments() -> list[str]:
    """Return `SETTINGS` as `--set` takes them."""
    from imgpipe.pipeline.configuration.config import flat

    return [f"{name}={json.dumps(value)}" for name, value in flat(SETTINGS)]


def newest_artifact(out: Path, component: str, output: str) -> Path:
    """Return the newest artifact folder of an output of a component, of whichever run."""
    folders = out.glob(f"runs/*/artifacts/{component}/{output}/[0-9]*/")
    return max(folders, key=lambda path: (path.parts[-5], int(path.name)))  # run and execution


def ruling(outcome: Any, rule: str) -> str:
    """Return what a rule says about the model of a run."""
    rulings = outcome.result["gate"]["rulings"]
    return str(next(one["text"] for one in rulings if one["rule"] == rule))


@dataclass(frozen=True)
class Case:
    """The folder of a data set and the output folder of its runs."""

    photos: Path
    out: Path

    def config(self, *assignments: str) -> Any:
        """Return the configuration of a run with `SETTINGS` and further ones."""
        from imgpipe.pipeline.configuration import config as configs
        from imgpipe.pipeline.configuration import given_settings

        tree = {**SETTINGS, "run": {"name": "hands", "out": str(self.out)}}
        tree["data"] = {"source": str(self.photos)}
        return configs.build(tree, given_settings.assigned(assignments))

    def config_file(self, folder: Path) -> Path:
        """Write the configuration of a run with `SETTINGS` into a folder; return the file."""
        from imgpipe.pipeline.configuration import given_settings

        file = folder / "hands.toml"
        file.write_text(given_settings.to_toml(self.config()))
        return file

    def run(self, *assignments: str, start: str | None = None, accept: bool = False) -> Any:
        """Run with `SETTINGS` and further ones; `start` and `accept` are the options of run."""
        from imgpipe.pipeline.execution.pipeline_run import execute

        return execute(self.config(*assignments), start, accept=accept)

    def copy(self, folder: Path) -> Case:
        """Return a case with a copy of the data and a new output folder, both below `folder`."""
        shutil.copytree(self.photos, folder / "photos")
        return Case(folder / "photos", folder / "out")
