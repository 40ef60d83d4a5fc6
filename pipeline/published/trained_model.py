"""Finds the model of a run, also of a run whose model was not blessed and so never published."""

from __future__ import annotations

import shlex
from pathlib import Path

from imgpipe.components.common.storage import integrity
from imgpipe.components.run_record.commands import run_command
from imgpipe.components.run_record.run_files import CONFIG
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.files.plain_paths import pattern_in
from imgpipe.models.files.version_files import SAVED_MODEL, SAVED_MODEL_FOLDER
from imgpipe.pipeline.output import places
from imgpipe.pipeline.output.past_runs import PastRun
from imgpipe.pipeline.output.run_folders import RUNS

#: Stands for the newest run that evaluated a model.
NEWEST = "newest"


def chosen_run(path: Path, name: str | None = None) -> PastRun | None:
    """Return the run whose model is meant; None where a published version is meant.

    Args:
        path: Folder of a run, or output folder.
        name: Name of a run of the output folder, or `NEWEST`; None without `--run`.

    Raises:
        ResourceError: There is no such run, or its summary is damaged.
    """
    path = places.plain(path)
    if name == NEWEST:
        return places.run(places.output_folder(path))
    if name is not None:
        return places.run(places.output_folder(path) / RUNS / name)
    if path.parent.name == RUNS and (path / CONFIG).is_file():
        return places.run(path)
    return None


def published_version(run: PastRun) -> Path | None:
    """Return the folder of the version that a run published; None if it no longer exists."""
    if run.version is None:
        return None
    version = run.versions_folder / str(run.version)
    return version if (version / SAVED_MODEL).is_file() else None


def folder(run: PastRun) -> Path:
    """Return the folder of the SavedModel that a run has trained, in its artifacts.

    Raises:
        ConfigError: TensorFlow would take the path for a pattern.
        ResourceError: The run evaluated no model, or its model was removed or is damaged.
    """
    if why := pattern_in(run.out):
        raise ConfigError(why)
    out = shlex.quote(str(run.out))
    if run.decision is None:
        raise ResourceError(
            f"run {run.name} has evaluated no model: {_ended(run)}. Expected: a run that did. "
            f"`imgpipe runs {out}` lists the runs."
        )
    again = f"Make it again: {run_command(str(run.folder), run.moved)}"
    uri = run.artifact("ImageTrainer", "model")
    model = Path(uri) / SAVED_MODEL_FOLDER
    if not uri or not (model / SAVED_MODEL).is_file():
        kept = run.config.get("run.keep")
        raise ResourceError(
            f"the model of run {run.name} was removed to save space: only the last {kept} runs "
            f"(run.keep) and published versions keep theirs. {again}"
        )
    wrong = integrity.damage(Path(uri), complete=True)
    if wrong:
        raise ResourceError(f"the model of run {run.name} is damaged: {wrong}. {again}")
    return model


def notice(run: PastRun) -> str:
    """Say why the model of a run is not published, as a sentence."""
    if run.summary is None:
        return ""
    verdict = run.summary["verdict"]
    if run.status in ("blessed", "not_blessed", "not_published"):  # with which the verdict begins
        return f"This model was {verdict}."
    return f"This model was not published. Its run ended: {verdict}."


def _ended(run: PastRun) -> str:
    if run.summary is None:
        return f"it is {run.status}" if run.status == "working" else f"it was {run.status}"
    return run.summary["verdict"].splitlines()[0]
