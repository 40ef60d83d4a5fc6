"""Reads the reference of a served version: statistics, schema and predictions.

Statistics and schema of the training data are in the version's own folder. The predictions on the
validation split stay among the artifacts of the run. ML Metadata tells which of them were made by
this model, also after a rollback or after a push that changed nothing. This module imports TFX.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from imgpipe.components.predictor import prediction
from imgpipe.components.storage import integrity, manifest, records
from imgpipe.models import feature_names as names
from imgpipe.models.errors import ResourceError
from imgpipe.models.features import feature_distribution
from imgpipe.models.features.feature_distribution import FeatureDistribution
from imgpipe.pipeline.output import metadata_file, run_folders
from imgpipe.pipeline.published import pushed_models

_PREDICTOR = "Predictor"
_MODEL = "model"  # its input with the model whose predictions it writes


@dataclass(frozen=True)
class Predictions:
    """Predictions of a model on its validation split."""

    labels: list[str]
    confidence: np.ndarray  # float32 [N], the highest probability of each image


@dataclass(frozen=True)
class Blessed:
    """The reference with which the requests of one version are compared."""

    version: manifest.Version
    schema: schema_pb2.Schema
    statistics: Mapping[str, statistics_pb2.DatasetFeatureStatisticsList]  # by split
    predictions: Predictions | None
    missing: str = ""  # why there are no predictions
    features: FeatureDistribution | None = None  # of the training images


def versions(path: Path) -> dict[int, manifest.Version]:
    """List the complete versions of a model.

    Args:
        path: Output folder of a run, folder of versions, or folder of one version.

    Returns:
        The versions by number.

    Raises:
        ResourceError: There is no model, or no version has a readable manifest.
    """
    base, _ = pushed_models.locate(path)
    found = {version.number: version for version in manifest.versions(base)}
    if not found:
        raise ResourceError(
            f"the versions in {base} have no readable {manifest.MANIFEST}: they were not published "
            "by a run, so their training data is unknown. Run `imgpipe run` and serve the version "
            "that it publishes."
        )
    return found


def choose(
    found: Mapping[int, manifest.Version], asked: Iterable[int]
) -> tuple[list[manifest.Version], list[int]]:
    """Find the versions that answered requests.

    Args:
        found: Existing versions by number.
        asked: Numbers of the versions that answered.

    Returns:
        The existing versions that answered, the newest first, and the numbers of the removed ones.

    Raises:
        ResourceError: All versions that answered were removed.
    """
    numbers = sorted(asked, reverse=True)
    known = [found[number] for number in numbers if number in found]
    if not known:
        raise ResourceError(
            f"the log has answers of version {', '.join(map(str, numbers))}; there are only "
            f"versions {', '.join(map(str, sorted(found)))}. Name the folder of the model that "
            "answered with --model."
        )
    return known, [number for number in numbers if number not in found]


def load(version: manifest.Version, run: Path | None = None) -> Blessed:
    """Read the reference of a version.

    Args:
        version: One of `versions`.
        run: Output folder of the run that made it. None for the folder above the versions.

    Returns:
        Statistics, schema and, where they still exist, predictions and distribution of the
        features.

    Raises:
        ResourceError: The version has no statistics, or its predictions are damaged.
    """
    from imgpipe.components.data_gate import component

    beside = version.path / manifest.PROVENANCE
    statistics = component.read_statistics(str(beside / "statistics"))
    if not statistics or not (beside / "schema").is_dir():
        raise ResourceError(
            f"version {version.number} in {version.path.parent} has no statistics of its training "
            f"data beside it (expected {beside / 'statistics'}). Run `imgpipe run` and serve the "
            "version that it publishes."
        )
    schema = component.read_schema(str(beside / "schema"))
    predictions, missing = _predictions(version, run or version.path.absolute().parent.parent)
    features = feature_distribution.load(str(version.path))
    return Blessed(version, schema, statistics, predictions, missing, features)


def _predictions(version: manifest.Version, out: Path) -> tuple[Predictions | None, str]:
    metadata = out / metadata_file.NAME
    if not metadata.is_file():
        return None, f"no run beside the model ({metadata}); name its folder with --run"
    if wrong := metadata_file.fault(out, to_read=True):
        raise ResourceError(wrong)
    for uri in _prediction_folders(version, out):
        if what := integrity.damage(uri, complete=True):
            raise ResourceError(f"{uri} is damaged: {what}. Run `imgpipe run` to make it again.")
        labels: list[str] = []
        confidence = []
        for example in records.iterate(str(uri), names.VALIDATION):
            labels.append(records.text(example, names.PREDICTED))
            confidence.append(prediction.read(example).confidence)
        if labels:
            return Predictions(labels, np.array(confidence, np.float32)), ""
    return None, f"{out} holds no predictions of this model any more"


def _prediction_folders(version: manifest.Version, out: Path) -> list[Path]:
    """Folders of the predictions that this model made, the newest first."""
    import ml_metadata as mlmd
    from ml_metadata.proto import metadata_store_pb2 as proto

    config = proto.ConnectionConfig()
    config.sqlite.filename_uri = str(out / metadata_file.NAME)
    config.sqlite.connection_mode = proto.SqliteMetadataSourceConfig.READONLY
    store = mlmd.MetadataStore(config)
    # First the artifacts that hold this model, then the executions of Predictor that read them,
    # then the predictions that those wrote.
    models = [
        artifact.id
        for artifact in store.get_artifacts_by_type("Model")
        if _is_served_by(run_folders.artifact(artifact.uri, out), version)
    ]
    read = _events(store.get_events_by_artifact_ids(models) if models else [], proto.Event.INPUT)
    # A later run also reads a copy of this model, as the baseline of its own.
    executions = {event.execution_id for event in read if event.path.steps[0].key == _MODEL}
    kinds = {kind.id: kind.name for kind in store.get_execution_types()}
    asked = [
        execution.id
        for execution in store.get_executions_by_id(list(executions))
        # The name of the type is that of the component's class with its module.
        if kinds[execution.type_id].endswith(f".{_PREDICTOR}")
    ]
    events = store.get_events_by_execution_ids(asked) if asked else []
    made = [event.artifact_id for event in _events(events, proto.Event.OUTPUT)]
    found = store.get_artifacts_by_id(sorted(set(made), reverse=True)) if made else []
    newest_first = sorted(found, key=lambda artifact: -artifact.id)
    folders = [run_folders.artifact(artifact.uri, out) for artifact in newest_first]
    return [folder for folder in folders if folder.is_dir()]


def _events(events: Iterable[Any], kind: int) -> list[Any]:
    return [event for event in events if event.type == kind]


def _is_served_by(model: Path, version: manifest.Version) -> bool:
    """Whether a Model artifact is what the version serves."""
    digest = model / "Format-Serving" / manifest.MODEL_DIGEST
    return digest.is_file() and manifest.sha256(digest) == version.model_identity
