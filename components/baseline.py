"""Baseline: provides the last blessed model, its statistics and its schema as artifacts.

It is a plain component instead of TFX's Resolver, which open-source Kubeflow Pipelines cannot run.
The version is given by parameters, so that TFX's cache notices another version.
"""

import json
import shutil
from pathlib import Path

import tensorflow as tf
from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import ExampleStatistics, Model, Schema
from tfx.utils import path_utils

from imgpipe.components.common.storage import known_images, manifest, records
from imgpipe.models.errors import ResourceError

STATE = "baseline.json"
#: Files that publishing has added to the SavedModel of a version.
_ADDED = shutil.ignore_patterns(manifest.MANIFEST, manifest.PROVENANCE, manifest.CARD)


def is_empty(uri: str) -> bool:
    """Check whether the model artifact of Baseline at `uri` holds no model."""
    return not tf.io.gfile.exists(path_utils.serving_model_path(uri))


@component
def Baseline(
    model: OutputArtifact[Model],
    statistics: OutputArtifact[ExampleStatistics],
    schema: OutputArtifact[Schema],
    push_directory: Parameter[str],
    version: Parameter[int],
    digest: Parameter[str],
    vocabulary: Parameter[str],
) -> None:
    """Copy the baseline version and its provenance.

    Args:
        model: Output: SavedModel of the baseline, empty when there is none to compare with, and
            the list of the images that it knows.
        statistics: Output: statistics of the data that the baseline was trained on.
        schema: Output: schema that this data was validated against.
        push_directory: Base path of the published versions.
        version: Number of the baseline version, 0 for none.
        digest: Fingerprint of the version, so that a changed version invalidates the cached copy.
        vocabulary: JSON list of this run's classes. The models are compared on the classes that
            both know, if there are several.

    Raises:
        ResourceError: The version has been removed or damaged since the run began.
    """
    state = {"version": version, "digest": digest, "compared": False, "why": "", "columns": []}
    found = _find(Path(push_directory), version)
    known = Path() if found is None else found.path / manifest.PROVENANCE / known_images.FILE
    if found is None:
        state["why"] = "there is no earlier blessed model to compare with"
    elif not found.comparable(json.loads(vocabulary)):
        state["why"] = f"version {version} has other classes, so that the models are not compared"
    elif not known.is_file():
        state["why"] = (
            f"version {version} does not say on which images it was trained, so that the models "
            "cannot be compared"
        )
    else:
        before = {name: column for column, name in enumerate(found.vocabulary)}
        columns = [before.get(name, -1) for name in json.loads(vocabulary)]
        state |= {"compared": True, "columns": columns}
        target = path_utils.serving_model_dir(model.uri)
        shutil.copytree(found.path, target, dirs_exist_ok=True, ignore=_ADDED)
    # The data of two runs can be compared even where their models cannot.
    if found is not None:
        for name, uri in (("statistics", statistics.uri), ("schema", schema.uri)):
            if (known.parent / name).is_dir():
                shutil.copytree(known.parent / name, uri, dirs_exist_ok=True)
        if known.is_file():
            shutil.copyfile(known, f"{model.uri}/{known_images.FILE}")
    records.write_json(f"{model.uri}/{STATE}", state)


def _find(base: Path, version: int) -> manifest.PublishedVersion | None:
    if not version:
        return None
    for found in manifest.versions(base):
        if found.number == version:
            return found
    raise ResourceError(
        f"version {version} in {base} was the last blessed model when this run began, and is now "
        "missing or damaged. Run again to compare with the version that is there now."
    )
