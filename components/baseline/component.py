"""Baseline: the last blessed model with its statistics, schema and vocabulary, as artifacts.

A plain component instead of TFX's Resolver, which open-source Kubeflow Pipelines cannot run. Which
version it is arrives as parameters, so that the cache is right.
"""

import json
import shutil
from pathlib import Path

import tensorflow as tf
from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import ExampleStatistics, Model, Schema
from tfx.utils import path_utils

from imgpipe.components import records
from imgpipe.components.model_pusher import manifest
from imgpipe.models.errors import ResourceError

STATE = "baseline.json"


def is_empty(uri: str) -> bool:
    """Whether a Baseline model artifact holds no model."""
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
    split_key: Parameter[str],
) -> None:
    """Copy what the last blessed run left beside its model.

    Args:
      model: the baseline's SavedModel; empty when there is none to compare with.
      statistics: of its data.
      schema: it was accepted by.
      push_directory: serving base path.
      version: number of the baseline version, 0 for none.
      digest: its content address; a changed version invalidates the cached copy.
      vocabulary: JSON list of this run's classes; another vocabulary counts as no baseline.
      split_key: address of how images are divided; a model that was trained on what is now
        validation would be flattered, so another division counts as no baseline too.
    """
    state = {"version": version, "digest": digest, "compared": False, "why": ""}
    found = _find(Path(push_directory), version)
    if found is None:
        state["why"] = "no earlier blessed model of another run"
    elif found.vocabulary != _classes(vocabulary):
        state["why"] = (
            f"version {version} knows other classes ({', '.join(found.vocabulary)}): not comparable"
        )
    elif found.manifest.get("split_key") != split_key:
        state["why"] = (
            f"version {version} was trained on another division of the images: not comparable"
        )
    else:
        state["compared"] = True
        _copy_model(found.path, Path(path_utils.serving_model_dir(model.uri)))
    if found is not None:
        provenance = found.path / manifest.PROVENANCE
        for name, uri in (("statistics", statistics.uri), ("schema", schema.uri)):
            if (provenance / name).is_dir():
                shutil.copytree(provenance / name, uri, dirs_exist_ok=True)
    records.write_json(f"{model.uri}/{STATE}", state)


def _classes(vocabulary: str) -> list[str]:
    return list(json.loads(vocabulary))


def _find(base: Path, version: int) -> manifest.Version | None:
    if not version:
        return None
    for found in manifest.versions(base):
        if found.number == version:
            return found
    raise ResourceError(
        f"version {version}, the last blessed model when this run began, is no longer whole in "
        f"{base}. Run again to compare with what is there now."
    )


def _copy_model(source: Path, target: Path) -> None:
    shutil.copytree(
        source,
        target,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns(
            manifest.MANIFEST, manifest.PROVENANCE, f"*{manifest.LITE_SUFFIX}"
        ),
    )
