"""Baseline: provides the last blessed model, its statistics and its schema as artifacts.

It is a plain component instead of TFX's Resolver, which open-source Kubeflow Pipelines cannot run.
The version is given by parameters, so that TFX's cache notices another version.
"""

import shutil
from pathlib import Path

import tensorflow as tf
from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import ExampleStatistics, Model, Schema
from tfx.utils import path_utils

from imgpipe.components.common.storage import manifest, records
from imgpipe.components.image_evaluator.decision import BaselineState
from imgpipe.components.image_evaluator.settings import ANSWERS_FOLDER, BASELINE_FILE
from imgpipe.models.errors import ResourceError
from imgpipe.models.settings.given import Given

#: Files that publishing has added to the SavedModel of a version.
_ADDED = shutil.ignore_patterns(manifest.MANIFEST, manifest.PROVENANCE)


def is_empty(uri: str) -> bool:
    """Check whether the model artifact of Baseline at `uri` holds no model."""
    return not tf.io.gfile.exists(path_utils.serving_model_path(uri))


@component
def Baseline(
    model: OutputArtifact[Model],
    statistics: OutputArtifact[ExampleStatistics],
    schema: OutputArtifact[Schema],
    settings: Parameter[str],
) -> None:
    """Copy the baseline version and its provenance.

    Args:
        model: Output: SavedModel of the baseline, empty when there is none to compare with, the
            list of the images that it knows, and its answers for some of them.
        statistics: Output: statistics of the data that the baseline was trained on.
        schema: Output: schema that this data was validated against.
        settings: Which version, and the classes of this run, see `imgpipe.models.settings.given`.

    Raises:
        ResourceError: The version has been removed or damaged since the run began.
    """
    given = Given.read(settings)
    facts = given.facts
    version = facts.baseline_version
    state: BaselineState = {
        "version": version,
        "digest": facts.baseline_digest,
        "compared": False,
        "why": "",
        "columns": [],
    }
    published = _published(given.settings.places.versions, version)
    images_file = (
        Path()
        if published is None
        else published.folder / manifest.PROVENANCE / manifest.KNOWN_IMAGES
    )
    if published is None:
        state["why"] = facts.no_baseline
    elif not published.comparable(facts.vocabulary):
        state["why"] = f"version {version} has other classes, so that the models are not compared"
    elif not images_file.is_file():
        state["why"] = (
            f"version {version} does not say on which images it was trained, so that the models "
            "cannot be compared"
        )
    else:
        before = {name: column for column, name in enumerate(published.vocabulary)}
        columns = [before.get(name, -1) for name in facts.vocabulary]
        state["compared"] = True
        state["columns"] = columns
        target = path_utils.serving_model_dir(model.uri)
        shutil.copytree(published.folder, target, dirs_exist_ok=True, ignore=_ADDED)
        answers = images_file.parent / ANSWERS_FOLDER
        if answers.is_dir():
            shutil.copytree(answers, f"{model.uri}/{ANSWERS_FOLDER}", dirs_exist_ok=True)
    # The data of two runs can be compared even where their models cannot.
    if published is not None:
        for name, uri in (("statistics", statistics.uri), ("schema", schema.uri)):
            if (images_file.parent / name).is_dir():
                shutil.copytree(images_file.parent / name, uri, dirs_exist_ok=True)
        if images_file.is_file():
            shutil.copyfile(images_file, f"{model.uri}/{manifest.KNOWN_IMAGES}")
    records.write_json(f"{model.uri}/{BASELINE_FILE}", state)


def _published(base: Path, version: int) -> manifest.Version | None:
    if not version:
        return None
    published = manifest.intact(base, version)
    if published is not None:
        return published
    raise ResourceError(
        f"version {version} in {base} was the last blessed model when this run began, and is now "
        "missing or damaged. Run again to compare with the version that is there now."
    )
